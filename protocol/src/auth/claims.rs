//! Claims of client tokens and of REST tokens (`client-protocols` §2.2, `rest-api` §3).
