//! What an address tells by itself, without its server: roles, free and disposable domains, spelling.

pub(super) mod lists;
pub(super) mod spelling;
