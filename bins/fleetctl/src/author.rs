//! Who decides, and why: what every command that records a decision asks for. It never guesses a
//! reason.

use crate::settings::Settings;

/// Characters of a name or a reason at most.
const WORDS_MAX: usize = 200;

/// A name or a reason, as an option takes it.
pub(crate) fn words(text: &str) -> Result<String, String> {
    let count = text.trim().chars().count();
    if (1..=WORDS_MAX).contains(&count) {
        return Ok(text.trim().to_owned());
    }
    Err(format!("1 to {WORDS_MAX} characters are expected"))
}

/// Who was named, or else the user of this terminal.
pub(crate) fn author(named: Option<&String>, settings: &Settings) -> String {
    let user = || settings.variable("USER").filter(|user| words(user).is_ok());
    named.cloned().or_else(user).unwrap_or_else(|| "?".to_owned())
}
