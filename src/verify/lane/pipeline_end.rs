//! Why the pipeline of a connection ended, with the questions that may be the cause.

use super::queue::Bisection;
use crate::{client::SessionError, proto::Reply};

/// Why the pipeline of a connection ended.
#[derive(Debug)]
pub(super) enum PipelineEnd {
    /// There are no more questions. The connection can be used again.
    Idle,
    /// The budget is used up, or the lane asked it to stop. Nothing is in flight.
    Exhausted,
    /// The connection broke. One of these questions may be the cause.
    Broken(SessionError, Bisection),
    /// The server closed the session, as by 421. One of these questions may be the cause.
    Closed(Reply, Bisection),
    /// The watchdog ended the connection. Questions in flight went back to the lane.
    Expired,
}
