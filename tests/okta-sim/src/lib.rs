//! A simulated Okta org over plain HTTP on loopback, for tests, benches and the demo.
//!
//! It is written from Okta's documented and recorded behaviour, never from the client it serves; it shares no type with
//! it. Comments of the form "facts 8.1" name the section of that description. See the README for a tour.
//!
//! Entry points: [`Org::generate`] makes an org, [`SimServer::start`] serves it, [`SimServer::sim`] gives access to
//! everything while it runs.
//!
//! ```
//! use okta_sim::{Org, ServerConfig, SimServer, Spec};
//! let server = SimServer::start(Org::generate(&Spec::of_users(50)), &ServerConfig::default())?;
//! let admin = server.sim().org.administrator();
//! let group = server.sim().org.create_group("vpn-users");
//! server.sim().org.add_member(admin, group).expect("both exist");
//! assert!(server.base_url().starts_with("http://127.0.0.1:"));
//! # Ok::<(), okta_sim::StartError>(())
//! ```
//!
//! Invariants:
//! - The org is deterministic: same spec, same mutations, same answers. Time is virtual unless asked otherwise.
//! - JSON is rendered from compact structs at request time; nothing rendered is kept.
//! - All input over the network is normal: it gets an answer or a closed connection, never a panic.

mod account;
mod admin;
mod api;
mod auth;
mod expr;
mod faults;
mod hidden;
mod http;
mod ids;
mod json;
mod jwt;
pub mod nonces;
pub mod oauth;
pub mod org;
mod rate;
mod server;
mod sim;
mod time;

pub use account::{EndpointCount, RequestRecord, Requests};
pub use auth::{ApiToken, Auth};
pub use faults::{Action, BadRecord, PageMatch, PathMatch, Quirks, Refusal, Rule};
pub use hidden::{ById, Hidden, Role, Way};
pub use http::{Delivery, Reply, Request};
pub use ids::{AppRef, GroupRef, UserRef};
pub use nonces::Nonces;
pub use oauth::{ChallengeForm, Oauth, ServiceApp};
pub use org::{LogControls, MutationError, NewApp, NewUser, Org, PageSizes, ProfileUpdate, Spec};
pub use rate::{Bucket, Limit, RateLimiter, Verdict, WINDOW_MS_DEFAULT, bucket_of};
pub use server::{ClockMode, ServerConfig, SimServer, StartError};
pub use sim::Sim;
