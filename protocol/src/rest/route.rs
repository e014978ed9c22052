//! Method, path and query → [`super::Call`] (`rest-api` §1.2, §2).
