//! An object store that fails on purpose: before a request, after it was carried out, slowly, or by answering
//! from an older listing.
//!
//! One seed gives one run of faults for one order of requests. `heal` ends all faults, so that a test can ask for
//! progress afterwards.

#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that each use a part of it")]

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// How often requests go wrong, each in thousandths of the requests that it may hit.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    /// Any request fails and has no effect.
    pub before: u32,
    /// A put or delete is carried out and then answered with an error.
    pub after_commit: u32,
    /// A get of an object that exists is answered with "not found", once for each object.
    pub not_found_once: u32,
    /// Any request takes `slow_for` longer.
    pub slow: u32,
    /// See `slow`.
    pub slow_for: Duration,
    /// How many of the newest objects every listing leaves out.
    pub list_omits: usize,
}

/// Whether a planned failure hits before or after the put has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The object is not stored.
    Before,
    /// The object is stored, and the answer says otherwise.
    AfterCommit,
}

/// What a planned failure leaves of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The next request works again.
    Recovers,
    /// Every later request fails too, as if the process had ended there.
    StaysDown,
}

/// How many requests there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Whole puts; parts of multipart uploads are not counted.
    pub puts: u64,
    /// Gets of any range, and heads.
    pub gets: u64,
    /// Listings.
    pub lists: u64,
    /// Objects to delete.
    pub deletes: u64,
    /// Requests that were made to go wrong.
    pub faults: u64,
}

/// Wraps a store and makes requests fail.
pub struct FaultStore {
    objects: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    random: u64,
    rates: FaultRates,
    /// The put with this number, counted from 0, fails.
    failing_put: Option<(u64, Moment, Aftermath)>,
    is_down: bool,
    ignores_create: bool,
    ignores_offset: bool,
    denied: HashSet<Path>,
    requests: Requests,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
struct Fate {
    delay: Duration,
    fails: Option<Moment>,
}

impl FaultStore {
    /// A store without faults until it is told otherwise.
    pub fn new(objects: Arc<dyn ObjectStore>, seed: u64) -> Arc<Self> {
        let plan = Plan {
            random: seed,
            rates: FaultRates::default(),
            failing_put: None,
            is_down: false,
            ignores_create: false,
            ignores_offset: false,
            denied: HashSet::new(),
            requests: Requests::default(),
        };
        Arc::new(Self { objects, plan: Arc::new(Mutex::new(plan)) })
    }

    /// From now on requests go wrong at these rates.
    pub fn set_rates(&self, rates: FaultRates) {
        self.plan.lock().rates = rates;
    }

    /// The put that comes after `skip` further puts fails.
    pub fn fail_put(&self, skip: u64, moment: Moment, aftermath: Aftermath) {
        let mut plan = self.plan.lock();
        plan.failing_put = Some((plan.requests.puts + skip, moment, aftermath));
    }

    /// From now on, and healed or not, a put that must create overwrites what is there, as some stores do.
    pub fn ignore_create(&self) {
        self.plan.lock().ignores_create = true;
    }

    /// From now on, and healed or not, a listing from an offset begins at the beginning.
    pub fn ignore_offset(&self) {
        self.plan.lock().ignores_offset = true;
    }

    /// Every request fails until the store is healed.
    pub fn go_down(&self) {
        self.plan.lock().is_down = true;
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.rates = FaultRates::default();
        plan.failing_put = None;
        plan.is_down = false;
    }

    /// The requests so far.
    pub fn requests(&self) -> Requests {
        self.plan.lock().requests
    }
}

impl Plan {
    /// A number below 1000, by splitmix64.
    fn roll(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((mixed ^ (mixed >> 31)) % 1000).expect("it is below 1000")
    }

    fn fate(&mut self, is_write: bool) -> Fate {
        let (slow, before, after) = (self.roll(), self.roll(), self.roll());
        let delay = if slow < self.rates.slow { self.rates.slow_for } else { Duration::ZERO };
        let fails = if self.is_down || before < self.rates.before {
            Some(Moment::Before)
        } else if is_write && after < self.rates.after_commit {
            Some(Moment::AfterCommit)
        } else {
            None
        };
        self.requests.faults += u64::from(fails.is_some() || !delay.is_zero());
        Fate { delay, fails }
    }

    fn fate_of_put(&mut self) -> Fate {
        let number = self.requests.puts;
        self.requests.puts += 1;
        let mut fate = self.fate(true);
        if let Some((failing, moment, aftermath)) = self.failing_put
            && failing == number
        {
            fate.fails = Some(moment);
            self.is_down |= aftermath == Aftermath::StaysDown;
            self.requests.faults += 1;
        }
        fate
    }

    fn denies(&mut self, location: &Path) -> bool {
        let denies = self.roll() < self.rates.not_found_once && self.denied.insert(location.clone());
        self.requests.faults += u64::from(denies);
        denies
    }
}

fn fault(what: &str) -> Error {
    Error::Generic { store: "fault", source: format!("a fault was injected {what}").into() }
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("requests", &self.requests()).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.objects)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let fate = {
            let mut plan = self.plan.lock();
            if plan.ignores_create {
                opts.mode = PutMode::Overwrite;
            }
            plan.fate_of_put()
        };
        wait(fate.delay).await;
        match fate.fails {
            Some(Moment::Before) => Err(fault("before a put")),
            Some(Moment::AfterCommit) => {
                self.objects.put_opts(location, payload, opts).await?;
                Err(fault("after a put"))
            }
            None => self.objects.put_opts(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let fate = self.plan.lock().fate(false);
        wait(fate.delay).await;
        match fate.fails {
            Some(_) => Err(fault("before a multipart upload")),
            None => self.objects.put_multipart_opts(location, opts).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (fate, denies) = {
            let mut plan = self.plan.lock();
            plan.requests.gets += 1;
            (plan.fate(false), plan.denies(location))
        };
        wait(fate.delay).await;
        if fate.fails.is_some() {
            return Err(fault("before a get"));
        }
        if denies {
            let source = "a fault was injected".into();
            return Err(Error::NotFound { path: location.to_string(), source });
        }
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fate = {
            let mut plan = self.plan.lock();
            plan.requests.gets += 1;
            plan.fate(false)
        };
        wait(fate.delay).await;
        match fate.fails {
            Some(_) => Err(fault("before a get")),
            None => self.objects.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (objects, plan) = (Arc::clone(&self.objects), Arc::clone(&self.plan));
        let delete = move |location: Path| {
            let (objects, plan) = (Arc::clone(&objects), Arc::clone(&plan));
            async move {
                let fate = {
                    let mut plan = plan.lock();
                    plan.requests.deletes += 1;
                    plan.fate(true)
                };
                wait(fate.delay).await;
                if fate.fails == Some(Moment::Before) {
                    return Err(fault("before a delete"));
                }
                objects.delete(&location).await?;
                match fate.fails {
                    Some(_) => Err(fault("after a delete")),
                    None => Ok(location),
                }
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.objects.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let ignores_offset = self.plan.lock().ignores_offset;
        if ignores_offset {
            return self.list(prefix);
        }
        self.listing(self.objects.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fate = {
            let mut plan = self.plan.lock();
            plan.requests.lists += 1;
            plan.fate(false)
        };
        wait(fate.delay).await;
        match fate.fails {
            Some(_) => Err(fault("before a listing")),
            None => self.objects.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

impl FaultStore {
    /// A listing that may fail, be slow, and lack its newest objects.
    fn listing(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (fate, omits) = {
            let mut plan = self.plan.lock();
            plan.requests.lists += 1;
            (plan.fate(false), plan.rates.list_omits)
        };
        let answer = async move {
            wait(fate.delay).await;
            if fate.fails.is_some() {
                return Err(fault("before a listing"));
            }
            let mut objects: Vec<ObjectMeta> = listed.try_collect().await?;
            // By path and not by time: many objects share one time, and newer ones have higher numbers.
            objects.sort_by(|a, b| a.location.cmp(&b.location));
            objects.truncate(objects.len().saturating_sub(omits));
            objects.reverse(); // the order of a listing is not promised
            Ok(futures::stream::iter(objects.into_iter().map(Ok)))
        };
        futures::stream::once(answer).try_flatten().boxed()
    }
}
