//! Ctrl-C: the first press asks a running loop to end cleanly, the second ends the program.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::INTERRUPTED;

static PRESSED: AtomicU32 = AtomicU32::new(0);
static LISTENING: AtomicBool = AtomicBool::new(false);
static CURSOR_HIDDEN: AtomicBool = AtomicBool::new(false);
static LAST_WORDS: Mutex<Option<&str>> = Mutex::new(None);

/// Installs the handler for SIGINT and SIGTERM. Without a [`Listener`] the first press ends the
/// program, as it would without a handler.
pub fn install() {
    let handler = || {
        let first = PRESSED.fetch_add(1, Ordering::SeqCst) == 0;
        if first && LISTENING.load(Ordering::SeqCst) {
            return;
        }
        restore_cursor();
        crate::bench::group::end_all();
        crate::timings::report_cut_off();
        say_last_words();
        #[allow(
            clippy::exit,
            reason = "the handler is the one place that must end the program"
        )]
        std::process::exit(i32::from(INTERRUPTED));
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C ends the program at once: {error}");
    }
}

/// Whether the user asked to stop.
pub fn pressed() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}

/// What an observer answers: break once the user asked to stop.
pub fn flow() -> ControlFlow<()> {
    if pressed() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// While it lives, the first Ctrl-C only sets [`pressed`]: somebody looks at it and ends cleanly.
#[must_use = "the promise to look at `pressed` holds while this value lives"]
pub struct Listener(());

impl Listener {
    /// Promises to look at [`pressed`] now and then.
    pub fn new() -> Self {
        LISTENING.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
    }
}

/// While it lives, the first Ctrl-C ends the program even if there is a [`Listener`]: for work beside which nothing is
/// there to be lost, and in which nobody looks.
#[must_use = "Ctrl-C ends the program while this value lives"]
pub struct AtOnce {
    listening: bool,
    _words: LastWords,
}

impl AtOnce {
    /// Until it is dropped.
    pub fn new() -> Self {
        Self {
            listening: LISTENING.swap(false, Ordering::SeqCst),
            _words: LastWords::new("stopped"),
        }
    }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        LISTENING.store(self.listening, Ordering::SeqCst);
    }
}

/// While it lives, a Ctrl-C that ends the program says this: for work that can be cut off anywhere
/// and goes on another time.
#[must_use = "the words hold while this value lives"]
pub struct LastWords(());

impl LastWords {
    /// What is said.
    pub fn new(words: &'static str) -> Self {
        set_last_words(Some(words));
        Self(())
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        set_last_words(None);
    }
}

fn set_last_words(words: Option<&'static str>) {
    if let Ok(mut last) = LAST_WORDS.lock() {
        *last = words;
    }
}

fn say_last_words() {
    let words = LAST_WORDS.lock().ok().and_then(|words| *words);
    if let Some(words) = words {
        // Below the bar that stands there.
        let line = match io::stderr().is_terminal() {
            true => format!("\n{words}\n"),
            false => format!("{words}\n"),
        };
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Notes that the cursor of the terminal is hidden, so that every way out shows it again.
pub fn cursor_hidden(hidden: bool) {
    CURSOR_HIDDEN.store(hidden, Ordering::SeqCst);
}

fn restore_cursor() {
    if CURSOR_HIDDEN.load(Ordering::SeqCst) {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            // Not through a lock: the main thread may hold it while it draws.
            let _ = write_unlocked(b"\x1b[?25h\n");
        }
    }
}

/// Writes past the lock of `io::stdout`.
fn write_unlocked(bytes: &[u8]) -> io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/tty")?
        .write_all(bytes)
}
