//! `parley-load [--core N]` generates load as commands on its input say; `parley-load sendto [--core N]` is the floor.

use std::io;
use std::process::ExitCode;

use parley_load::driver::Driver;
use parley_load::{floor, sys};

const USAGE: &str = "parley-load [sendto] [--core N]";

struct Arguments {
    is_floor: bool,
    core: Option<usize>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { is_floor: false, core: None };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "sendto" => found.is_floor = true,
            "--core" => {
                let core = given.next().and_then(|core| core.parse().ok());
                found.core = Some(core.ok_or_else(|| USAGE.to_owned())?);
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(found)
}

fn run() -> Result<(), String> {
    let arguments = arguments()?;
    let in_words = |error: io::Error| error.to_string();
    if let Some(core) = arguments.core {
        sys::pin_to_core(core).map_err(in_words)?;
    }
    sys::raise_file_limit().map_err(in_words)?;
    if arguments.is_floor {
        return floor::run(io::stdin().lock(), io::stdout()).map_err(in_words);
    }
    Driver::new(io::stdout())?.run().map_err(in_words)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("parley-load: {why}");
            ExitCode::FAILURE
        }
    }
}
