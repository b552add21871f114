//! Facts about an address that need no network: roles, free and disposable domains, spelling.

pub(super) mod lists;
pub(super) mod spelling;
