//! The closed set of message types that travel on one queue, written as a table: an enum with its wire
//! names and versions, and the [`Message`](crate::Message) implementation that follows from it. It never
//! touches a body's shape: that is the variant's own type.

/// Declares an enum of message types: `Variant(Body) = "WIRE_NAME" v1`.
macro_rules! messages {
    (
        $(#[$doc:meta])*
        pub enum $name:ident on $queue:path {
            $($(#[$variant_doc:meta])* $variant:ident($body:ty) = $kind:literal $version:ident,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($body),)+
        }

        impl $crate::Message for $name {
            const QUEUE: &'static $crate::QueueSpec = &$queue;

            fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }

            fn version(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $crate::messages::versions::$version,)+
                }
            }

            fn body_json(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(body) => $crate::json::to_ascii(body),)+
                }
            }

            fn decode(
                header: &$crate::Header,
                body: &serde_json::value::RawValue,
            ) -> Result<Self, $crate::DecodeError> {
                use $crate::messages::{read, versions};
                match header.kind.as_str() {
                    $($kind => read(header, versions::$version, body).map(Self::$variant),)+
                    kind => Err($crate::DecodeError::UnknownType(kind.into())),
                }
            }
        }
    };
}

pub(crate) use messages;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::envelope::Header;
use crate::message::DecodeError;

/// The versions that a table may name.
pub(crate) mod versions {
    #![expect(non_upper_case_globals, reason = "a table reads `v1`, as the golden files are named")]
    pub(crate) const v1: u32 = 1;
}

/// Reads a body of the one version that this build knows.
pub(crate) fn read<T: DeserializeOwned>(
    header: &Header,
    known: u32,
    body: &RawValue,
) -> Result<T, DecodeError> {
    let kind = &header.kind;
    if header.v != known {
        return Err(DecodeError::UnknownVersion { kind: kind.clone(), version: header.v });
    }
    serde_json::from_str(body.get())
        .map_err(|error| DecodeError::Malformed { kind: kind.clone(), reason: error.to_string() })
}
