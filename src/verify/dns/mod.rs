//! The mail servers of a domain, from the DNS or from static routes.

mod answers;
mod dnssec;
mod queries;
pub(super) mod resolver;
mod route;
