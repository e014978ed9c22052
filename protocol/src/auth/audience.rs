//! Audience normalisation and matching (`client-protocols` §2.3, `rest-api` §3.1).
