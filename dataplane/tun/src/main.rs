//! `parley-tun NEAR FAR [--seed N]`: makes two TUN devices of these names and carries packets between them until its
//! input ends. The devices are down and without addresses: who starts it sets them up, and moves one to a namespace.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use parley_tun::command::{Answer, Command};
use parley_tun::{Pump, sys};

const USAGE: &str = "parley-tun NEAR FAR [--seed N]";
const MAX_LINE: usize = 65_536;

struct Arguments {
    names: [String; 2],
    seed: u64,
}

fn arguments() -> Result<Arguments, String> {
    let (mut names, mut seed) = (Vec::new(), 0);
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        if word == "--seed" {
            seed = given.next().and_then(|seed| seed.parse().ok()).ok_or_else(|| USAGE.to_owned())?;
        } else {
            names.push(word);
        }
    }
    Ok(Arguments { names: names.try_into().map_err(|_| USAGE.to_owned())?, seed })
}

fn say(answer: &Answer) -> Result<(), String> {
    let text = serde_json::to_string(answer).map_err(|error| error.to_string())?;
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|error| error.to_string())
}

fn answered(pump: &mut Pump, line: &[u8]) -> Answer {
    let taken = serde_json::from_slice(line)
        .map_err(|error| error.to_string())
        .and_then(|command: Command| pump.take(&command));
    match taken {
        Ok(()) => Answer::Report(pump.report()),
        Err(why) => Answer::Error(why),
    }
}

fn run() -> Result<(), String> {
    let Arguments { names, seed } = arguments()?;
    let open = |name: &String| sys::open_tun(name).map_err(|error| format!("the device {name}: {error}"));
    let mut pump = Pump::new(open(&names[0])?, open(&names[1])?, seed);
    let descriptor = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let mut input = File::from(descriptor); // without a buffer that `ppoll` does not see
    say(&Answer::Ready(names))?;
    let (mut line, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        pump.run(input.as_fd()).map_err(|error| format!("a device has failed: {error}"))?;
        let count = input.read(&mut chunk).map_err(|error| error.to_string())?;
        if count == 0 {
            return say(&Answer::Report(pump.report()));
        }
        for byte in &chunk[..count] {
            if *byte != b'\n' {
                line.push(*byte);
            } else {
                say(&answered(&mut pump, &line))?;
                line.clear();
            }
        }
        if line.len() > MAX_LINE {
            return Err("a line of the input is too long".to_owned());
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("parley-tun: {why}");
            ExitCode::FAILURE
        }
    }
}
