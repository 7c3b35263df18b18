//! Security identifiers, descriptors and tokens, to the extent that filters look at them (K-177).
//!
//! There is one subject, the local system account, which may do everything: an access check grants what is asked for
//! after mapping generic rights, and says so in a comment where a real one would look further.

mod access;
mod assign;
mod descriptor;
mod sid;
mod token;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 5] =
    [access::TABLE, assign::TABLE, descriptor::TABLE, sid::TABLE, token::TABLE];
