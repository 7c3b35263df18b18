//! The tables as text: `docs/endpoint-states.md` and the drawn graph in it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{EVENTS, REQUESTS, RequestKind, StateName, Verdict};
use crate::network::NetworkError;
use crate::status::{Cause, During, Situation, fate};

/// `docs/endpoint-states.md`: both tables, the statuses, and the graph.
pub fn markdown() -> String {
    let parts = [
        "# States of a connection endpoint\n\n\
         Written by `tdi_core::table::markdown` from the tables the code runs on; a test keeps this file equal to\n\
         them (`UPDATE_SNAPSHOTS=1 cargo test -p tdi_core` rewrites it). Chapter numbers are those of\n\
         `tdi-connections.md`.\n\n",
        &states(),
        "## Requests (chapter 11.1)\n\n\
         `-> X` succeeds at once, `p -> X` pends in X, `ok` is legal and changes no state, `nothing` succeeds without\n\
         any effect, a status is a refusal. Two things about the last connection go before the refusals of A. When both\n\
         sides have released, RECEIVE takes what the client has not taken yet, and then completes SUCCESS with no bytes,\n\
         until something else begins (C-555): a connection that is set up, a DISASSOCIATE, or the close; an ABORT, though\n\
         refused, drops what is left, too. And when it was lost under no request and no handler, the first request learns why\n\
         (C-457).\n\n",
        &requests(),
        "## Events (chapter 11.2)\n\n",
        &events(),
        "## Statuses of refused requests (chapter 12.1)\n\n",
        &statuses(),
        "## Fate of pending requests (chapter 12.2)\n\n\
         A RECEIVE that holds bytes already completes SUCCESS with them instead (C-527).\n\n",
        &fates(),
        "## Drawn\n\n```mermaid\n",
        &graph(),
        "```\n",
    ];
    parts.concat()
}

/// The graph of states as a Mermaid diagram. CLEANUP, which leads from every state to Z, is drawn once.
pub fn graph() -> String {
    let mut edges: BTreeMap<(StateName, StateName), Vec<String>> = BTreeMap::new();
    for (kind, row) in &REQUESTS {
        for (from, cell) in StateName::ALL.iter().zip(row) {
            if let (Verdict::Becomes(to) | Verdict::Pends(to), true) = (cell, *kind != RequestKind::Cleanup) {
                edges.entry((*from, *to)).or_default().push(request_words(*kind).into());
            }
        }
    }
    for row in &EVENTS {
        for from in row.from {
            let label = format!("({:?})", row.event);
            let labels = edges.entry((*from, row.to)).or_default();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    let mut text = String::from("stateDiagram-v2\n    [*] --> Unassociated : open\n");
    for ((from, to), labels) in &edges {
        text += &format!("    {from:?} --> {to:?} : {}\n", labels.join(", "));
    }
    text += "    note right of CleanedUp : from every state, when the last handle is closed\n    CleanedUp --> [*] : CLOSE\n";
    text
}

fn states() -> String {
    let mut text = String::from("| | State | Active |\n|---|---|---|\n");
    for state in StateName::ALL {
        let active = if state.is_active() { "yes" } else { "" };
        text += &format!("| {} | {state:?} | {active} |\n", state.letter());
    }
    text + "\n"
}

fn requests() -> String {
    let mut text = String::from("| Request |");
    for state in StateName::ALL {
        text += &format!(" {} |", state.letter());
    }
    text += "\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    for (kind, row) in &REQUESTS {
        text += &format!("| {} |", request_words(*kind));
        for cell in row {
            text += &format!(" {} |", cell_words(*cell));
        }
        text += "\n";
    }
    text + "\n"
}

fn events() -> String {
    let mut text = String::from("| Event | From | To | Visible effect |\n|---|---|---|---|\n");
    for row in &EVENTS {
        let from: Vec<String> = row.from.iter().map(|state| String::from(state.letter())).collect();
        text += &format!("| {:?} | {} | {} | {} |\n", row.event, from.join(", "), row.to.letter(), row.effect);
    }
    text + "\n"
}

fn statuses() -> String {
    let mut text = String::from("| Situation | Status |\n|---|---|\n");
    for situation in Situation::ALL {
        text += &format!("| {} | {:?} |\n", situation.words(), situation.status());
    }
    text + &format!("| DISCONNECT, two flags | {:?} |\n", crate::status::BAD_DISCONNECT_FLAGS)
        + &format!("| ASSOCIATE, address closing | {:?} |\n\n", crate::status::ASSOCIATE_CLOSED_ADDRESS)
}

fn fates() -> String {
    let mut text =
        String::from("| Cause | CONNECT | LISTEN, ACCEPT | SEND | RECEIVE | DISCONNECT |\n|---|---|---|---|---|---|\n");
    let causes = [
        Cause::Cancelled,
        Cause::LocalAbort,
        Cause::TimedOut,
        Cause::CleanedUp,
        Cause::AddressClosed,
        Cause::Broken(NetworkError::Refused),
        Cause::Broken(NetworkError::Reset),
        Cause::Broken(NetworkError::TimedOut),
        Cause::Broken(NetworkError::NetworkUnreachable),
        Cause::Broken(NetworkError::Aborted),
    ];
    for cause in causes {
        text += &format!("| {cause:?} |");
        for during in During::ALL {
            text += &format!(" {:?} |", fate(cause, during));
        }
        text += "\n";
    }
    text + "\n"
}

fn cell_words(cell: Verdict) -> String {
    match cell {
        Verdict::Refused(situation) => format!("{:?}", situation.status()),
        Verdict::Stays => "ok".into(),
        Verdict::NoEffect => "nothing".into(),
        Verdict::Becomes(state) => format!("-> {}", state.letter()),
        Verdict::Pends(state) => format!("p -> {}", state.letter()),
    }
}

fn request_words(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Associate => "ASSOCIATE",
        RequestKind::Disassociate => "DISASSOCIATE",
        RequestKind::Connect => "CONNECT",
        RequestKind::Listen => "LISTEN",
        RequestKind::Accept => "ACCEPT",
        RequestKind::AcceptIrp => "AcceptIrp",
        RequestKind::DisconnectAbort => "DISCONNECT 0 / ABORT",
        RequestKind::DisconnectRelease => "DISCONNECT RELEASE",
        RequestKind::DisconnectWait => "DISCONNECT WAIT",
        RequestKind::Send => "SEND",
        RequestKind::SendAndDisconnect => "SEND AND_DISCONNECT",
        RequestKind::Receive => "RECEIVE",
        RequestKind::Cleanup => "last handle closed",
    }
}
