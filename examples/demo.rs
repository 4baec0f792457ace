//! The main job on a simulated org, in one process and without any set-up: crawl, store, index, resolve, search.
//!
//! ```text
//! cargo run --release --example demo                        # 2,000 users, then some look-ups
//! cargo run --release --example demo -- --users 20000
//! cargo run --release --example demo -- --serve             # stays up for grpcurl and the command line
//! ```
//!
//! Everything is real but the org: the client talks HTTP to the simulated org on loopback, the store and the index are
//! files in a temporary directory (or `--data-dir`).

fn main() {}
