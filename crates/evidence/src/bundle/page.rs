//! The page that goes with the evidence, for somebody who has never heard of Merkle trees. It says what
//! is proved, by what, what is not, and how to check it; it is no proof itself.

use super::{EVENT, Evidence, HEAD, INDEX};
use crate::document::{Body, Scope, Sealed};
use crate::head::Head;
use crate::moment;

const NOT_PROVED: &str = "\
WHAT IS NOT PROVED

- That what the event says is true. It is proved that it was recorded so.
- What was done before the event was archived, when the manifest was signed.
- Anything against the holder of the signing key, unless somebody else keeps the signed head, or an
  earlier one of the same chain, and it fits.
- That no other copy of the event exists. A receipt names the copies that were known.
";

const HOW: &str = "\
HOW TO CHECK IT

  fleetctl verify THIS-FOLDER --key THE-PUBLIC-KEY

Get the public key from somebody you trust, not from this folder. The formats, and how to check each
step by hand, are in Flotilla's docs/ARCHIVE.md.
";

/// The page.
pub(super) fn text(evidence: &Evidence, documents: &[&Sealed], head: Option<&Head>) -> String {
    let Evidence { tenant, id, .. } = evidence;
    let mut parts =
        vec![format!("EVIDENCE FOR EVENT {id} OF {tenant}\n\nWHAT THESE FILES PROVE\n\n")];
    if let Some(archived) = &evidence.archived {
        parts.push(format!(
            "- {EVENT} holds the event's bytes as they were accepted. With its salt, and the hashes in\n  {INDEX}, they give the root that manifest {} states. The manifest is signed: nobody without the\n  key could have changed a byte since.\n",
            archived.manifest
        ));
    }
    if let Some(deleted) = &evidence.deleted {
        parts.push(format!(
            "- The event was deleted from the database and from search. Receipt {} is signed and states the\n  root of a list of what was deleted; the hashes in {INDEX} show that this event is in the list.\n",
            deleted.receipt
        ));
    }
    parts.extend(documents.iter().filter_map(|sealed| removed(sealed)));
    parts.push(match head {
        Some(head) => format!(
            "- {HEAD} is a signed statement of {} over the first {} documents of the chain. The hashes\n  in {INDEX} show which of the documents below it counts, each at its place.\n",
            moment::text(head.at),
            head.size
        ),
        None => "- No signed head was at hand. That the documents below are part of the published chain is not\n  proved yet; their signatures are.\n".to_owned(),
    });
    parts.push("\nTHE DOCUMENTS\n\n".to_owned());
    parts.extend(documents.iter().map(|sealed| document(sealed)));
    parts.push(format!("\n{NOT_PROVED}\n{HOW}"));
    parts.concat()
}

/// An archive object that had the event is gone.
fn removed(sealed: &Sealed) -> Option<String> {
    let receipt = sealed.receipt().filter(|receipt| receipt.scope == Scope::Object)?;
    let (number, manifest) = (sealed.document.header.sequence, receipt.manifest?.sequence);
    Some(format!(
        "- The archive object that manifest {manifest} describes was deleted on {}. Receipt {number} is signed\n  and says so.\n",
        moment::text(receipt.deleted_at)
    ))
}

fn document(sealed: &Sealed) -> String {
    let header = &sealed.document.header;
    let what = match &sealed.document.body {
        Body::Key(record) => format!("the key that signs from here on ({})", record.reason),
        Body::Manifest(manifest) => format!("what {} holds", manifest.object),
        Body::Receipt(receipt) => {
            let what = match receipt.scope {
                Scope::Rows => "events",
                Scope::Object => "events, with the archive object that held them,",
            };
            format!("{} {what} deleted, asked for by {}", receipt.deleted, receipt.requester)
        }
    };
    let at = moment::text(header.issued_at);
    format!("- {:012}, {at}, signed by {}: {what}\n", header.sequence, header.key_id)
}
