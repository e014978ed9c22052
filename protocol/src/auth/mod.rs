//! Token forms, claims and roles as data; signatures are checked outside.

pub mod audience;
pub mod claims;
pub mod client_url;
pub mod issued;
pub mod role;
pub mod token;
