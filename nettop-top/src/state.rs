//! All that a screen is made from: frames, what of them is shown, and how.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use nettop_model::{snapshot::Traffic, sockets::Document};

use crate::{
    editor::{Earlier, Editor},
    filter::Filter,
    frame::{Frame, Interner, Key},
    graphs::Graphs,
    keep::{Keep, MAX_BYTES},
    keys::Keymap,
    lines::{Amounts, Crumb, Input, Line},
    order::{Calm, Sort},
    theme::Theme,
    units::Units,
    views::{VIEWS, View, What},
};

/// What a window of a record may take.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// Lines of a stream of events that are kept.
const MAX_STREAM_LINES: usize = 1000;

/// What does not change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// No character but those of ASCII.
    pub is_ascii: bool,
    pub theme: Theme,
    pub keymap: Keymap,
    /// Whether there is a record to go back to.
    pub has_record: bool,
    /// Whether anything is measured now.
    pub has_live: bool,
}

/// Which frame is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The newest, as it comes.
    Newest,
    /// One of those in memory.
    Held,
    /// One of the record.
    Record,
}

/// What is typed into the line at the bottom.
#[derive(Clone, Debug)]
pub enum Typing {
    Filter(Editor),
    Time(Editor),
    /// And which of the found actions is chosen.
    Palette(Editor, usize),
}

/// Events of a command, as lines.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What came of an earlier one is not this one's.
    pub number: u64,
    pub title: String,
    pub lines: VecDeque<String>,
    /// Lines that came before those.
    pub gone: u64,
    /// How it ended, if it has.
    pub ended: Option<String>,
}

impl Stream {
    pub fn push(&mut self, line: &str) {
        self.lines.push_back(crate::text::safe(line));
        if self.lines.len() > MAX_STREAM_LINES {
            self.lines.pop_front();
            self.gone += 1;
        }
    }
}

/// All of it.
#[derive(Debug)]
pub struct State {
    pub options: Options,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    pub live: Keep,
    pub record: Keep,
    pub(crate) interner: Interner,
    pub shown: Option<Arc<Frame>>,
    pub place: Place,
    /// Why nothing more is measured, if so.
    pub lost: Option<String>,
    /// Place among the views.
    pub view: usize,
    pub scope: Vec<Crumb>,
    pub filter: Filter,
    pub filter_text: String,
    pub(crate) earlier_filters: Earlier,
    pub typing: Option<Typing>,
    /// What is wrong with what is typed, or what was done last.
    pub message: Option<String>,
    /// First line of the help, if it is shown.
    pub help: Option<usize>,
    pub lines: Vec<Line>,
    /// How many there are without the filter.
    pub lines_of: usize,
    /// Place of the chosen line, and its key.
    pub cursor: usize,
    pub chosen: Option<String>,
    /// First line on the screen.
    pub top: usize,
    pub sorts: [Sort; VIEWS.len()],
    pub(crate) calm: Calm,
    /// The order that is held.
    pub held: Option<Vec<String>>,
    pub amounts: Amounts,
    pub mark: Option<HashMap<Key, Traffic>>,
    pub units: Units,
    pub has_names: bool,
    pub is_long: bool,
    pub is_tree: bool,
    pub has_details: bool,
    pub is_zoomed: bool,
    pub has_mouse: bool,
    pub sockets: Option<Arc<Document>>,
    /// Whether a listing is under way.
    pub(crate) asks_sockets: bool,
    /// The question that the record is asked, and the steps that wait for its answer.
    pub(crate) asks_record: Option<u64>,
    pub(crate) waiting_steps: i64,
    /// How many questions there were.
    pub(crate) record_questions: u64,
    pub(crate) graphs: Graphs,
    pub stream: Option<Stream>,
    /// How many there were.
    pub(crate) streams: u64,
}

impl State {
    pub fn new(options: Options, size: (u16, u16)) -> Self {
        let sort = |view: &View| Sort {
            column: view.columns.iter().position(|column| column.what == view.sort).unwrap_or(0),
            is_reversed: false,
        };
        Self {
            size,
            live: Keep::new(MAX_BYTES),
            record: Keep::new(MAX_RECORD_BYTES),
            interner: Interner::default(),
            shown: None,
            place: if options.has_live { Place::Newest } else { Place::Record },
            lost: None,
            view: 0,
            scope: Vec::new(),
            filter: Filter::default(),
            filter_text: String::new(),
            earlier_filters: Earlier::default(),
            typing: None,
            message: None,
            help: None,
            lines: Vec::new(),
            lines_of: 0,
            cursor: 0,
            chosen: None,
            top: 0,
            sorts: VIEWS.each_ref().map(sort),
            calm: Calm::default(),
            held: None,
            amounts: Amounts::Rate,
            mark: None,
            units: Units::default(),
            has_names: true,
            is_long: false,
            is_tree: false,
            has_details: true,
            is_zoomed: false,
            has_mouse: true,
            sockets: None,
            asks_sockets: false,
            asks_record: None,
            waiting_steps: 0,
            record_questions: 0,
            graphs: Graphs::default(),
            stream: None,
            streams: 0,
            options,
        }
    }

    pub fn view(&self) -> &'static View {
        &VIEWS[self.view.min(VIEWS.len() - 1)]
    }

    pub fn sort(&self) -> Sort {
        self.sorts[self.view.min(VIEWS.len() - 1)]
    }

    /// Where the shown frame is from.
    pub const fn keep(&self) -> &Keep {
        match self.place {
            Place::Record => &self.record,
            Place::Newest | Place::Held => &self.live,
        }
    }

    /// What lines and graphs are made from; none before the first frame.
    pub(crate) fn input(&self) -> Option<Input<'_>> {
        static NO_MARK: std::sync::LazyLock<HashMap<Key, Traffic>> = std::sync::LazyLock::new(HashMap::new);
        Some(Input {
            frame: self.shown.as_deref()?,
            keep: self.keep(),
            view: self.view(),
            scope: &self.scope,
            filter: &self.filter,
            amounts: self.shown_amounts(),
            mark: self.mark.as_ref().unwrap_or(&NO_MARK),
            // They are as of now.
            sockets: self.sockets.as_deref().filter(|_| self.place == Place::Newest),
            is_long: self.is_long,
            has_names: self.has_names,
        })
    }

    /// A record has no sums from before the shown slot.
    pub fn shown_amounts(&self) -> Amounts {
        match (self.amounts, self.place) {
            (Amounts::SinceMark, Place::Record) => Amounts::Sum,
            (amounts, _) => amounts,
        }
    }

    pub fn line(&self) -> Option<&Line> {
        self.lines.get(self.cursor)
    }

    /// The column that the view is sorted by.
    pub fn sorted_by(&self) -> What {
        self.view().columns.get(self.sort().column).map_or(What::Name, |column| column.what)
    }
}
