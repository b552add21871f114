//! The common parts of the text types.

use std::{borrow::Cow, sync::Arc};

/// The wire form of a host, relative to how it was written. The common case needs no allocation.
pub(super) enum WireForm {
    AsWritten,
    LowerCase,
    Rewritten(String),
}

impl WireForm {
    /// Returns the length of `input` in octets on the wire. Its host begins at `start`.
    pub(super) fn len(&self, input: &str, start: usize) -> usize {
        match self {
            Self::AsWritten | Self::LowerCase => input.len(),
            Self::Rewritten(host) => start + host.len(),
        }
    }

    /// Returns `input` with the host that begins at `start` in its wire form.
    pub(super) fn into_text(self, input: &str, start: usize) -> Arc<str> {
        match self {
            Self::AsWritten => input.into(),
            Self::LowerCase => {
                let mut text: Arc<str> = input.into();
                // The text is not shared yet, so this needs no second allocation.
                if let Some(text) = Arc::get_mut(&mut text) {
                    text[start..].make_ascii_lowercase();
                }
                text
            }
            Self::Rewritten(host) => [&input[..start], &host].concat().into(),
        }
    }

    /// Like [`into_text`](Self::into_text), but returns `input` itself if it is in its wire form.
    pub(super) fn into_cow(self, input: &str, start: usize) -> Cow<'_, str> {
        match self {
            Self::AsWritten => input.into(),
            Self::LowerCase => {
                let mut text = input.to_owned();
                text[start..].make_ascii_lowercase();
                text.into()
            }
            Self::Rewritten(host) => [&input[..start], &host].concat().into(),
        }
    }
}

/// Implements the conversions of a type that has `parse` and `as_str`.
macro_rules! text_type {
    ($name:ident) => {
        text_type!($name, [] $name);
    };
    ($name:ident, [$($generics:tt)*] $type:ty) => {
        impl std::str::FromStr for $name {
            type Err = crate::proto::AddressError;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                Self::parse(input)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = crate::proto::AddressError;

            fn try_from(input: &str) -> Result<Self, Self::Error> {
                Self::parse(input)
            }
        }

        impl<$($generics)*> AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl<$($generics)*> std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.as_str()).finish()
            }
        }
    };
}

pub(super) use text_type;
