//! Events in the API's own shape, one per line. Lines are not interpreted beyond being JSON: the API
//! says what is wrong with an event.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{Item, Source};
use crate::failure::Failure;

/// Bytes of a line at most; the API's own limit for an event is smaller.
const LINE_MAX: u64 = 1024 * 1024;

/// Opens a file, or stdin for `-`.
pub(super) fn open(path: &Path) -> Result<Source, Failure> {
    let shown = path.display().to_string();
    let (reader, total): (Box<dyn BufRead + Send>, _) = if shown == "-" {
        (Box::new(BufReader::new(std::io::stdin())), None)
    } else {
        let file = File::open(path).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
        let size = file.metadata()?.len();
        (Box::new(BufReader::new(file)), Some(size))
    };
    Ok(Source { name: format!("ndjson {shown}"), total, items: Box::new(events(reader, shown)) })
}

fn events(
    mut reader: Box<dyn BufRead + Send>,
    shown: String,
) -> impl Iterator<Item = Result<Item, Failure>> + Send {
    let mut number = 0_u64;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = Vec::new();
            let read = reader.by_ref().take(LINE_MAX + 1).read_until(b'\n', &mut line);
            match read {
                Err(error) => return Some(Err(Failure::new(format!("{shown}:{number}: {error}")))),
                Ok(0) => return None,
                Ok(length) if length as u64 > LINE_MAX => {
                    let why = format!("{shown}:{number}: the line is over {LINE_MAX} bytes");
                    return Some(Err(Failure::new(why)));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(length) => return Some(event(&line, length as u64, &shown, number)),
            }
        }
    })
}

fn event(line: &[u8], steps: u64, shown: &str, number: u64) -> Result<Item, Failure> {
    let event = serde_json::from_slice(line).map_err(|error| {
        Failure::new(format!("{shown}:{number}: not JSON: {error}")).hint(
            "what came before this line is in; mend it and give the same command with --state",
        )
    })?;
    Ok(Item { event, steps })
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, events};

    fn read(text: &str) -> Vec<bool> {
        events(Box::new(std::io::Cursor::new(text.to_owned())), "x".into())
            .map(|item| item.is_ok())
            .collect()
    }

    #[test]
    fn lines_are_events_and_blank_ones_are_not() {
        assert_eq!(read("{\"a\":1}\n\n{\"b\":2}"), [true, true]);
        assert_eq!(read("{\"a\":1}\nnope\n"), [true, false]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let padding = |length: u64| " ".repeat(usize::try_from(length).unwrap() - 3) + "{}\n";
        assert_eq!(read(&padding(LINE_MAX)), [true]);
        assert!(!read(&padding(LINE_MAX + 1))[0]);
    }
}
