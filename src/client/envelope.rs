use crate::proto::Reply;

/// The replies to MAIL and to each RCPT of a transaction.
#[must_use = "a refusal is a reply: see `mail` and `rcpts`"]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvelopeReplies {
    /// The reply to MAIL.
    pub mail: Reply,
    /// The replies to RCPT, in order. Where MAIL was refused and the server offers no PIPELINING, none were sent.
    pub rcpts: Vec<Reply>,
}
