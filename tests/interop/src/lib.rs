//! Real mail servers and a name server on loopback, for tests. A server is started with its users, observed, and killed
//! when it is dropped.
//!
//! Every function here panics with the reason if a test could only fail.

mod authority;
mod exim;
mod node;
mod nsd;
mod opensmtpd;
mod peer;
mod policy;
mod port;
mod postfix;
mod sendmail;
mod server;
mod world;

pub use self::{
    authority::Authority,
    exim::Bounces,
    node::NullSender,
    nsd::Nsd,
    peer::{Aiosmtpd, AiosmtpdOptions},
    policy::Greylist,
    postfix::{Log, MAX_ERRORS, Postfix, Service},
    server::{Server, Sessions},
    world::{Address, Kind, World},
};
