//! Real mail servers, and a name server, on loopback, for tests: started, fed with users, watched, and gone when dropped.
//!
//! Everything here panics, with a reason, where a test could only fail.

mod authority;
mod nsd;
mod peer;
mod policy;
mod port;
mod postfix;
mod world;

pub use self::{
    authority::Authority,
    nsd::Nsd,
    peer::{Aiosmtpd, AiosmtpdOptions},
    policy::Greylist,
    postfix::{Log, MAX_ERRORS, Postfix, Service},
    world::{Address, Kind, World},
};
