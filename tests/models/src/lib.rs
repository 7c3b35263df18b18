//! The lock-free parts, run in every order of their steps.
//!
//! Each test binary includes the very source files of the part it is about and gives them another `crate::sync`: loom's, which
//! knows what the memory model lets threads see, or shuttle's, which interleaves whole programs of them. So what is
//! checked is what runs, and no part of the product knows of either.
//!
//! | test | source | by |
//! |---|---|---|
//! | `handles` | `nt_object/src/entry.rs` | loom |
//! | `lists` | `nt_executive/src/lists/sequence.rs`: SLISTs, and with them lookaside lists | shuttle |
//! | `rings` | `trace/src/window.rs` | loom |
//! | `slots` | `arena/src/free_slots.rs`: slots and their caches | shuttle |
//! | `waits` | `nt_dispatcher/src/wait.rs`, `bell.rs` | shuttle |
//!
//! Bounded here; `MODEL_PREEMPTIONS` and `MODEL_SCHEDULES` make them longer, as `cargo xtask soak` does.

#![forbid(unsafe_code)]
