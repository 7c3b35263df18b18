//! The file as it is written: every key with its type and place, nothing checked across keys yet.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::units::{Chance, Rate, Size, Time};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) seed: Option<u64>,
    #[serde(default)]
    pub(super) default_link: DefaultLink,
    #[serde(default)]
    pub(super) host: Vec<Spanned<HostTable>>,
    #[serde(default)]
    pub(super) link: Vec<LinkTable>,
    #[serde(default)]
    pub(super) fault: Vec<Spanned<FaultTable>>,
    #[serde(default)]
    pub(super) peer: Vec<Spanned<PeerTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTable {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<Vec<Spanned<String>>>,
    pub(super) driver: Option<Spanned<String>>,
    pub(super) send_buffer: Option<Spanned<Size>>,
    pub(super) receive_buffer: Option<Spanned<Size>>,
    pub(super) connect_timeout: Option<Time>,
    pub(super) data_timeout: Option<Time>,
}

/// The properties of a link are keys of three tables, beside others that each has of its own.
macro_rules! link_table {
    ($(#[$meta:meta])* $name:ident { $($own:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $own: $type,)*
            latency: Option<Time>,
            jitter: Option<Time>,
            loss: Option<Chance>,
            duplicate: Option<Chance>,
            reorder: Option<Chance>,
            reorder_delay: Option<Time>,
            bandwidth: Option<Rate>,
            queue: Option<Spanned<Size>>,
            mtu: Option<Spanned<Size>>,
            down: Option<bool>,
        }

        impl $name {
            /// The properties it names.
            pub(super) fn settings(&self) -> Settings {
                Settings {
                    latency: self.latency,
                    jitter: self.jitter,
                    loss: self.loss,
                    duplicate: self.duplicate,
                    reorder: self.reorder,
                    reorder_delay: self.reorder_delay,
                    bandwidth: self.bandwidth,
                    queue: self.queue.clone(),
                    mtu: self.mtu.clone(),
                    down: self.down,
                }
            }
        }
    };
}

link_table! {
    #[derive(Default)]
    DefaultLink {}
}

link_table! {
    LinkTable { between: Spanned<Vec<Spanned<String>>>, }
}

link_table! {
    FaultTable {
        at: Time,
        until: Option<Spanned<Time>>,
        link: Option<Spanned<Vec<Spanned<String>>>>,
        partition: Option<Spanned<Vec<Spanned<String>>>>,
        crash: Option<Spanned<String>>,
    }
}

#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) latency: Option<Time>,
    pub(super) jitter: Option<Time>,
    pub(super) loss: Option<Chance>,
    pub(super) duplicate: Option<Chance>,
    pub(super) reorder: Option<Chance>,
    pub(super) reorder_delay: Option<Time>,
    pub(super) bandwidth: Option<Rate>,
    pub(super) queue: Option<Spanned<Size>>,
    pub(super) mtu: Option<Spanned<Size>>,
    pub(super) down: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerTable {
    pub(super) host: Spanned<String>,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) protocol: Protocol,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) bytes: Option<Spanned<Size>>,
    pub(super) text: Option<Spanned<String>>,
    pub(super) files: Option<Spanned<BTreeMap<String, FileContent>>>,
    pub(super) to: Option<Spanned<String>>,
    pub(super) at: Option<Spanned<Time>>,
    pub(super) every: Option<Spanned<Time>>,
    pub(super) count: Option<Spanned<u32>>,
    pub(super) then: Option<Spanned<Then>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Echo,
    Sink,
    Source,
    Http,
    Reset,
    Silent,
    Ignore,
    HalfClose,
    Client,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Then {
    Close,
    Reset,
    Stay,
}

#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "the file's text, or its length as a number")]
pub(super) enum FileContent {
    Text(String),
    Length(u64),
}
