//! Error bodies (`rest-api` §1.5).
