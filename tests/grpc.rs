//! The gRPC services over a real server, a real client and a real store, without Okta.
//!
//! Entry points: the tests of the modules; [`world`] fills the store and the index and starts the server.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "grpc/acl.rs"]
mod acl;
#[path = "grpc/admin.rs"]
mod admin;
#[path = "grpc/changes.rs"]
mod changes;
#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/completeness.rs"]
mod completeness;
#[path = "grpc/copies.rs"]
mod copies;
#[path = "grpc/coverage.rs"]
mod coverage;
#[path = "grpc/crowds.rs"]
mod crowds;
#[path = "grpc/door.rs"]
mod door;
#[path = "grpc/explain.rs"]
mod explain;
#[path = "grpc/failures.rs"]
mod failures;
#[path = "grpc/http.rs"]
mod http;
#[path = "grpc/lists.rs"]
mod lists;
#[path = "grpc/lookups.rs"]
mod lookups;
#[path = "grpc/overrides.rs"]
mod overrides;
#[path = "grpc/overrides_kept.rs"]
mod overrides_kept;
#[path = "grpc/patience.rs"]
mod patience;
#[path = "grpc/pieces.rs"]
mod pieces;
#[path = "grpc/pki.rs"]
mod pki;
#[path = "grpc/raw.rs"]
mod raw;
#[path = "grpc/reflector.rs"]
mod reflector;
#[path = "grpc/reflector_principals.rs"]
mod reflector_principals;
#[path = "grpc/restarts.rs"]
mod restarts;
#[path = "grpc/search.rs"]
mod search;
#[path = "grpc/security.rs"]
mod security;
#[path = "grpc/server.rs"]
mod server;
#[path = "grpc/status.rs"]
mod status;
#[path = "grpc/streams.rs"]
mod streams;
#[path = "grpc/templates.rs"]
mod templates;
#[path = "grpc/unread_rows.rs"]
mod unread_rows;
#[path = "grpc/withdrawn.rs"]
mod withdrawn;
#[path = "grpc/world.rs"]
mod world;
