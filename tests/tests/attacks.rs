//! The server attacked over the wire by its own makers (`reliability` §2.1 to §2.3): what is malformed, ambiguous, slow,
//! endless or too much is refused in its own way, costs what it may cost, and is nobody else's trouble.

mod floods;
mod frames;
mod http;
mod json;
mod readers;
mod slow;
