//! The rules of `tdi-connections.md`, each shown by a case of a few lines.

#[path = "../world/mod.rs"]
mod world;

mod address;
mod associate;
mod awkward;
mod cancel;
mod cleanup;
mod connect;
mod disconnect;
mod expedited;
mod indicate;
mod life;
mod listen;
mod network_loss;
mod receive;
mod send;
mod table;
