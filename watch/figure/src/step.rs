//! What a figure shows: steps between parties.

/// Who takes part: the lifelines of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// A driver, by its number in the [`Cast`](crate::cast::Cast).
    Driver(usize),
    /// The I/O manager.
    IoManager,
    /// Whatever is at the other end of the network.
    Remote,
    /// Whoever asks for what the command line or a scenario demands of the drivers.
    Tester,
    /// Drydock itself; it has no lifeline.
    Drydock,
}

/// How a step is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One party calls another.
    Call,
    /// A call comes back, or a request that was pending is completed.
    Return,
    /// Something goes over the network.
    Network,
    /// The end of a connection goes over the network.
    Farewell,
    /// A remark at the lifeline of `from`.
    Note(Tone),
    /// Steps that are not drawn one by one.
    Fold,
    /// What ended the run early.
    Stop,
}

/// How a text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// It went well.
    Good,
    /// It is not over.
    Pending,
    /// It failed, or a rule was broken.
    Bad,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `STATUS_SUCCESS`, with a byte count where it says something.
    pub text: String,
    /// Its colour.
    pub tone: Tone,
}

/// Who wants to know of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Figures and accounts.
    All,
    /// Figures only.
    Figure,
    /// Accounts only.
    Account,
}

/// The part of a step by which long transfers are folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What is counted: `TDI_RECEIVE`.
    pub title: String,
    /// How many of it this step is: 1 for the call, 0 for its completion.
    pub count: u64,
    /// Bytes that are known to have moved by this step.
    pub bytes: u64,
    /// Whether a driver asked for it or was called for it, rather than the network moved it.
    pub is_request: bool,
}

/// An activation bar: from the step that opens it to the one that closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Which one, unique in a run.
    pub serial: u64,
    /// On whose lifeline.
    pub party: Party,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub time_ns: u64,
    /// Where the arrow begins.
    pub from: Party,
    /// Where it ends.
    pub to: Party,
    /// How it is drawn.
    pub kind: Kind,
    /// `TDI_SEND`.
    pub title: String,
    /// `endpoint #1`, or empty.
    pub about: String,
    /// `91 bytes`, or empty.
    pub detail: String,
    /// What became of it, if that is known here.
    pub outcome: Option<Outcome>,
    /// The step as a predicate of `from`, for accounts; empty if title, object and detail say it.
    pub said: String,
    /// Who wants to know.
    pub audience: Audience,
    /// Set for steps that move data.
    pub transfer: Option<Transfer>,
    /// Bars that begin with this step.
    pub opens: Vec<Bar>,
    /// Bars that end with this step.
    pub closes: Vec<u64>,
    /// Bars that ended before it.
    pub ended: Vec<u64>,
    /// What becomes of it is about to be known: do not show it yet.
    pub held: bool,
}

impl Step {
    /// A step without particulars.
    pub fn new(time_ns: u64, from: Party, to: Party, kind: Kind, title: impl Into<String>) -> Self {
        Self {
            time_ns,
            from,
            to,
            kind,
            title: title.into(),
            about: String::new(),
            detail: String::new(),
            outcome: None,
            said: String::new(),
            audience: Audience::All,
            transfer: None,
            opens: Vec::new(),
            closes: Vec::new(),
            ended: Vec::new(),
            held: false,
        }
    }

    /// About which object.
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// With a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// In these words for accounts.
    pub fn said(mut self, said: impl Into<String>) -> Self {
        self.said = said.into();
        self
    }

    /// For these readers.
    pub fn only_for(mut self, audience: Audience) -> Self {
        self.audience = audience;
        self
    }

    /// Moving data.
    pub fn moving(mut self, title: &str, count: u64, bytes: u64, is_request: bool) -> Self {
        self.transfer = Some(Transfer { title: title.into(), count, bytes, is_request });
        self
    }

    /// Title, object and detail. The object's name is held together by a no-break space.
    pub fn label(&self) -> String {
        let about = self.about.replace(' ', "\u{A0}");
        let parts = [&self.title, &about, &self.detail];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }

    /// The whole step in words, without who and when.
    pub fn sentence(&self) -> String {
        let said = if self.said.is_empty() { self.label() } else { self.said.clone() };
        match &self.outcome {
            Some(outcome) => format!("{said} → {}", outcome.text),
            None => said,
        }
    }
}
