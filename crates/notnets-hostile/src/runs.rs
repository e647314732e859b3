//! Attacks in great numbers, by seed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use rustix::process::nice;

use crate::attacks::{self, Attack};
use crate::greetings::{disturb, greet_client, greet_server};
use crate::ground::{Met, accept, dial, meet_client, meet_server};
use crate::latencies::{Latencies, P99};
use crate::peers::{bind, calls, endpoint};
use crate::random::Random;
use crate::victims::{Error, Victim};

/// Hostile threads at once.
const VILLAINS: u64 = 2;
/// The lowest priority that a thread can have.
const LOWEST: i32 = 19;
/// The time that 99 of 100 calls may take unless it is compared, on a machine with few cores and other work.
const MOST: Duration = Duration::from_millis(50);
/// A p99 that is shorter counts as this: a thread that has to be woken takes as long.
const SHORT: Duration = Duration::from_micros(100);
/// How long the peers that mean well are measured without others.
const QUIET: Duration = Duration::from_secs(2);

/// What is done: how, how often, and the numbers that decide all else.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What decides all that happens.
    pub seed: u64,
    /// Descriptors that victims take.
    pub descriptors: u64,
    /// Descriptors on one link at most: floods reach it.
    pub on_a_link: u64,
    /// The attacks that are made.
    pub attacks: Vec<Attack>,
    /// What is said on sockets is attacked with as well.
    pub greetings: bool,
    /// Hostile threads have the priority of all others, and not the lowest.
    pub equal: bool,
    /// Threads that do nothing but loop, to compare with.
    pub control: Option<usize>,
    /// The p99 of a peer that means well may be as many times what it is without others.
    pub times: Option<u32>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    descriptors: AtomicU64,
    links: AtomicU64,
    greetings: AtomicU64,
}

impl Done {
    /// Descriptors that victims have taken.
    pub fn descriptors(&self) -> u64 {
        self.descriptors.load(Ordering::Relaxed)
    }

    fn line(&self) -> String {
        let [links, greetings] = [&self.links, &self.greetings].map(|count| count.load(Ordering::Relaxed));
        format!("{} descriptors on {links} links, {greetings} greetings", self.descriptors())
    }
}

/// Attacks servers, async and blocking, until they have taken this number of descriptors.
///
/// # Errors
/// When a victim ends, or a call of the well-behaved client fails.
pub fn attack_servers(program: &Path, plan: &Plan) -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let mut victim = Victim::start(program, "serve", directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let channel = runtime.block_on(endpoint(directory.path(), "victim")?.connect())?;
    let measure = |work: &mut dyn FnMut() -> Result<(), Error>| -> Result<Latencies, Error> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let calling = scope.spawn(|| runtime.block_on(calls(channel.clone(), &stop)));
            let worked = work();
            stop.store(true, Ordering::Relaxed);
            let latencies = calling.join().map_err(|_| "the well-behaved client panicked")?;
            worked.map(|()| latencies)
        })
    };
    let quiet = measure(&mut || {
        thread::sleep(QUIET);
        Ok(())
    })?;
    if let Some(threads) = plan.control {
        let mut control = measure(&mut || loops(threads, plan))?;
        println!("  beside {threads} threads that only loop: {}", control.line());
    }
    let (done, begin) = (Done::default(), Instant::now());
    let beside = measure(&mut || {
        let names = Directory::at(directory.path());
        villains(plan, &done, |random| {
            let name = random.one_of(&["victim", "victim", "blocking-victim"]);
            against_server(&names, &name.parse().expect("a name"), random, plan, &done)
        })
    })?;
    report("a client of the attacked server", begin, &done, quiet, beside, plan)?;
    victim.tell()?;
    println!("  the server holds {} at its end", victim.line()?);
    victim.end()
}

/// Attacks clients, async and blocking, until they have taken this number of descriptors.
///
/// # Errors
/// When a victim ends, or one of its calls of a well-behaved server fails.
pub fn attack_clients(program: &Path, plan: &Plan) -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let good = runtime.block_on(bind(directory.path(), "good"))?;
    runtime.spawn(good.serve());
    let listener = Directory::at(directory.path()).listen(&"bad".parse()?)?;
    let mut victim = Victim::start(program, "call", directory.path())?;
    thread::sleep(QUIET);
    victim.tell()?;
    println!("  the client's calls elsewhere, quiet: {}", victim.line()?);
    let quiet = victim.p99()?;
    let (done, begin) = (Done::default(), Instant::now());
    villains(plan, &done, |random| against_client(accept(&listener)?, random, plan, &done))?;
    victim.tell()?;
    println!("  and beside {} in {:.1?}: {}", done.line(), begin.elapsed(), victim.line()?);
    let beside = victim.p99()?;
    println!("  the client holds {} at its end", victim.line()?);
    victim.end()?;
    compare("the attacked client", quiet, beside, plan)
}

fn report(
    whose: &str,
    begin: Instant,
    done: &Done,
    mut quiet: Latencies,
    mut beside: Latencies,
    plan: &Plan,
) -> Result<(), Error> {
    println!("  {whose}, quiet: {}", quiet.line());
    println!("  and beside {} in {:.1?}: {}", done.line(), begin.elapsed(), beside.line());
    quiet.check()?;
    beside.check()?;
    compare(whose, quiet.quantile(P99), beside.quantile(P99), plan)
}

/// # Errors
/// When the p99 beside hostile peers is more times the quiet one than it may be, or far longer than others'
/// turns explain.
fn compare(whose: &str, quiet: Duration, beside: Duration, plan: &Plan) -> Result<(), Error> {
    let times = beside.as_secs_f64() / quiet.max(SHORT).as_secs_f64();
    let is_fine = plan.times.map_or(beside <= MOST, |most| times <= most.into());
    if is_fine {
        return Ok(());
    }
    Err(format!("{whose} had a p99 of {beside:.1?} beside hostile peers, {times:.1} times that without them")
        .into())
}

/// Lets threads loop for as long as is measured without others.
fn loops(threads: usize, plan: &Plan) -> Result<(), Error> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads = (0..threads).map(|_| {
            scope.spawn(|| -> Result<(), Error> {
                if !plan.equal {
                    nice(LOWEST)?;
                }
                while begin.elapsed() < QUIET {
                    std::hint::spin_loop();
                }
                Ok(())
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|looping| looping.join().map_err(|_| "a thread panicked")?)
    })
}

/// Lets hostile threads attack again and again, each with its own random numbers.
fn villains(
    plan: &Plan,
    done: &Done,
    attack: impl Fn(&mut Random) -> io::Result<()> + Sync,
) -> Result<(), Error> {
    thread::scope(|scope| {
        let threads = (0..VILLAINS).map(|number| {
            let attack = &attack;
            scope.spawn(move || -> Result<(), Error> {
                if !plan.equal {
                    // They never rest, as any program can, with NotNets or without. What others lose by that
                    // is the kernel's to divide; what is measured is what victims do.
                    nice(LOWEST)?;
                }
                let mut random = Random::new(plan.seed ^ number << 56);
                let mut fruitless = Instant::now();
                while done.descriptors() < plan.descriptors {
                    let before = done.descriptors();
                    // A victim may refuse, or be slow to accept; that nothing at all goes on is a fault.
                    let attacked = attack(&mut random);
                    if done.descriptors() > before {
                        fruitless = Instant::now();
                    } else if fruitless.elapsed() > Duration::from_secs(60) {
                        return Err(format!("no descriptor was taken for a minute: {attacked:?}").into());
                    }
                }
                Ok(())
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|villain| villain.join().map_err(|_| "a villain panicked")?)
    })
}

fn against_server(
    names: &Directory,
    name: &Name,
    random: &mut Random,
    plan: &Plan,
    done: &Done,
) -> io::Result<()> {
    if plan.greetings && random.once_in(8) {
        done.greetings.fetch_add(1, Ordering::Relaxed);
        greet_server(&dial(names, name)?, name.as_str(), random);
        return Ok(());
    }
    on_link(&meet_server(names, name)?, random, plan, done)
}

fn against_client(
    socket: notnets_core::link::Socket,
    random: &mut Random,
    plan: &Plan,
    done: &Done,
) -> io::Result<()> {
    if plan.greetings && random.once_in(8) {
        done.greetings.fetch_add(1, Ordering::Relaxed);
        crate::ground::take_hello(&socket)?;
        greet_client(&socket, random);
        return Ok(());
    }
    on_link(&meet_client(socket)?, random, plan, done)
}

fn on_link(met: &Met, random: &mut Random, plan: &Plan, done: &Done) -> io::Result<()> {
    let mut ground = met.ground()?;
    if plan.greetings && random.once_in(16) {
        disturb(&met.socket, random);
    }
    let most = random.one_of(&[100, 1000, plan.on_a_link]);
    attacks::run(random.one_of(&plan.attacks), &mut ground, random, most);
    done.descriptors.fetch_add(ground.taken(), Ordering::Relaxed);
    done.links.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
