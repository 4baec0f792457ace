//! The index from outside: what is written is found, in the promised order, and damage is rebuilt.
//!
//! Entry points: one module per promise; `world` builds small indexes.

mod bounds;
mod damage;
mod kills;
mod model;
mod names;
mod open;
mod processes;
mod search;
mod suggest;
mod world;
mod write;
