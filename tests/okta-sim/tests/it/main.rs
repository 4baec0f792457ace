//! Tests of the simulated org through its HTTP interface, most of them without sockets (`Sim::handle`).

mod access;
mod endpoints;
mod faults;
mod following;
mod log;
mod loud;
mod mutations;
mod scale;
mod sockets;
mod support;
mod walks;
