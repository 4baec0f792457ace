//! The connector against the simulated org: real client, engine, store and index over HTTP on loopback.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the org lives in real time while the crawl runs")]

mod crawl;
mod faults;
mod files;
mod filters;
mod gaps;
mod harness;
mod limits;
mod mixed_faults;
mod parts;
mod picture;
mod requests;
mod service_app;
mod settings;
mod stops;
