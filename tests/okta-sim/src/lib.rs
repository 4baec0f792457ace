//! A simulated Okta org over HTTP.
mod ids;
mod json;
pub mod org;
mod time;
