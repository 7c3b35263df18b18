//! Making, installing and recycling thread blocks.
//!
//! Each block lies in a stride of its own: the KPCR page, the host's page, a guard page and an alternate
//! signal stack. Released blocks are used again, with the slot caches they hold; a run repeated with the
//! same seed sees the same addresses.
//!
//! A host thread inherits its creator's GS base: it must install a block of its own before anything of this
//! crate is used on it.

use std::arch::asm;
use std::io;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, PoisonError};

use arena::{PAGE, Region, plan};
use host_lock::{Mutex, MutexGuard};
use nt_abi::Irql;
use trace::RingWriter;

use crate::recorder;
use crate::thread::{HostThread, Pages};

/// Bytes of the alternate signal stack: far more than `AT_MINSIGSTKSZ` (about 12 KiB with AVX-512).
const SIGNAL_STACK: usize = 64 << 10;
/// Where it starts, behind the two pages and a guard.
const SIGNAL_STACK_OFFSET: usize = 3 * PAGE;
/// From one block to the next.
const STRIDE: usize = SIGNAL_STACK_OFFSET + SIGNAL_STACK;
/// Most threads at a time. Events number threads with 16 bits.
const BLOCKS_MAX: usize = 1 << 15;

const _: () = assert!(size_of::<Pages>() <= 2 * PAGE && offset_of!(Pages, host) == PAGE);

/// A thread's block: what GS leads to while the thread runs.
///
/// Made by [`Block::new`], valid until the process ends, used again for another thread after
/// [`Block::release`].
#[repr(transparent)]
pub struct Block(Pages);

// SAFETY: the pages are cells, touched by the thread that runs on the block; `host_id` is atomic.
unsafe impl Sync for Block {}

struct Blocks {
    region: Region,
    free: Mutex<Vec<&'static Block>>,
    /// Blocks that were ever made; written under the lock of `free`, read by signal handlers.
    made: AtomicU64,
}

static BLOCKS: OnceLock<Blocks> = OnceLock::new();

impl Block {
    /// Takes a block for a thread that will run on `stack`.
    ///
    /// `thread_object` is the address of its `KTHREAD`, `id` the number its events carry, `processor` the
    /// processor number its driver code reads. The block starts at PASSIVE_LEVEL.
    ///
    /// # Errors
    /// `OutOfMemory` beyond 32,768 threads, or what the operating system says.
    pub fn new(stack: Range<u64>, thread_object: u64, id: u16, processor: u16) -> io::Result<&'static Self> {
        let block = Blocks::get()?.take()?;
        let (kpcr, host) = (block.0.kpcr.get(), block.0.host.get());
        let ring = recorder::trace().map_or(RingWriter::absent(), |trace| trace.take_ring(id));
        // SAFETY: the block is committed and nobody uses it. Its slot caches stay as they are (at first all
        // zero, which is an empty cache), and so does `deferred`, which counts entries of the dispatcher's queue. Its ring is all zero or absent, so nothing is lost by `write`.
        unsafe {
            (*kpcr).self_address = kpcr as u64;
            (*kpcr).current_prcb = kpcr as u64 + 0x180;
            (*kpcr).irql = Irql::PASSIVE.0;
            (*kpcr).processor = processor;
            (*kpcr).processor_index = u32::from(processor);
            (*kpcr).current_thread = thread_object;
            (*host).caller = 0;
            (*host).import = 0;
            (*host).entry = 0;
            (*host).id = id;
            (*host).processor = processor;
            (*host).innermost = std::ptr::null_mut();
            (*host).pending = std::ptr::null_mut();
            (*host).escape = std::ptr::null_mut();
            (*host).stack_low = stack.start;
            (*host).stack_high = stack.end;
            (&raw mut (*host).ring).write(ring);
            (*host).dispatcher = 0;
            (*host).stays = 0;
            (*host).spin_lock_count = 0;
            (*host).in_handler = false;
            (*host).has_answered.store(false, Ordering::Relaxed);
        }
        Ok(block)
    }

    /// Says which stack the thread will run on, if that was not known to [`Block::new`].
    ///
    /// # Safety
    /// Nobody runs on the block.
    pub unsafe fn set_stack(&self, stack: Range<u64>) {
        let host = self.host();
        // SAFETY: a committed page; nobody else touches it, as the caller promises.
        unsafe { ((*host).stack_low, (*host).stack_high) = (stack.start, stack.end) };
    }

    /// The host's part.
    pub fn host(&self) -> *mut HostThread {
        self.0.host.get()
    }

    /// The `KTHREAD` of the thread on it.
    pub(crate) fn thread_object(&self) -> u64 {
        // SAFETY: a committed page; the word changes only when the block is given to another thread.
        unsafe { (*self.0.kpcr.get()).current_thread }
    }

    /// Makes this the calling host thread's block: GS base and alternate signal stack.
    ///
    /// Call it first thing on every host thread that may run driver code, and release the block when no such
    /// code runs any more; the alternate signal stack stays in use until the thread ends or installs another.
    pub fn install(&'static self) {
        let stack = libc::stack_t {
            ss_sp: (self.address() + SIGNAL_STACK_OFFSET as u64) as *mut libc::c_void,
            ss_flags: 0,
            ss_size: SIGNAL_STACK,
        };
        // SAFETY: the range is committed, belongs to this block alone and is never unmapped.
        let set = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
        assert_eq!(set, 0, "sigaltstack refuses 64 KiB: {}", io::Error::last_os_error());
        // SAFETY: gettid has no preconditions.
        let id = unsafe { libc::gettid() } as u32;
        // SAFETY: the block is committed; `host_id` is atomic.
        unsafe { (*self.host()).host_id.store(id, Ordering::Relaxed) };
        set_gs_base(self.address());
    }

    /// Makes this the block of the fiber that the calling host thread goes on with. Sets the GS base only: the
    /// alternate signal stack belongs to the host thread.
    #[inline]
    pub fn switch_to(&'static self) {
        let from = crate::thread::current();
        // SAFETY: both blocks are committed; `host_id` is atomic.
        unsafe {
            let id = (*from).host_id.swap(0, Ordering::Relaxed);
            (*self.host()).host_id.store(id, Ordering::Relaxed);
        }
        set_gs_base(self.address());
    }

    /// Gives the block back: its ring at once, the rest with the next [`Block::new`].
    ///
    /// # Safety
    /// Nothing runs on the block any more that uses this crate. A host thread may release the block it is
    /// installed on as its very last act.
    pub unsafe fn release(&'static self) {
        let host = self.host();
        // SAFETY: by the function's contract nobody else uses the block now.
        unsafe {
            (*host).ring.release();
            (*host).host_id.store(0, Ordering::Relaxed);
            // Whoever looks for threads inside imports finds none here.
            (*host).caller = 0;
        }
        if let Some(blocks) = BLOCKS.get() {
            blocks.free().push(self);
        }
    }

    pub(crate) fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }
}

/// Every block ever made, for signal handlers that look for a thread. Reads no lock.
pub(crate) fn all() -> impl Iterator<Item = &'static Block> {
    let (base, made) =
        BLOCKS.get().map_or((0, 0), |blocks| (blocks.region.base(), blocks.made.load(Ordering::Acquire)));
    // SAFETY: `made` blocks are committed and never unmapped.
    (0..made).map(move |index| unsafe { &*((base + index * STRIDE as u64) as *const Block) })
}

/// The calling thread's block, or `None` if its GS base leads elsewhere: for handlers, which must not assume.
pub(crate) fn installed() -> Option<&'static Block> {
    let blocks = BLOCKS.get()?;
    let (base, first) = (gs_base(), blocks.region.base());
    let offset = base.checked_sub(first)?;
    let inside = offset < blocks.made.load(Ordering::Acquire) * STRIDE as u64 && offset % STRIDE as u64 == 0;
    // SAFETY: it is the address of a committed block.
    inside.then(|| unsafe { &*(base as *const Block) })
}

/// The calling thread's block, if GS or the KPCR does not lead to it any more: drivers can load the one and write to the other.
/// Both lead there again afterwards, so that what reports it can be written.
pub(crate) fn put_right() -> Option<&'static Block> {
    if let Some(block) = installed() {
        // SAFETY: a committed page, which this thread's driver code writes to as well.
        let was = unsafe { std::mem::replace(&mut (*block.0.kpcr.get()).self_address, block.address()) };
        return (was != block.address()).then_some(block);
    }
    // SAFETY: gettid has no preconditions.
    let id = unsafe { libc::gettid() } as u32;
    // SAFETY: blocks are committed; the word is atomic.
    let block = all().find(|block| unsafe { (*block.host()).host_id.load(Ordering::Relaxed) } == id)?;
    set_gs_base(block.address());
    put_right();
    Some(block)
}

/// The calling host thread's own stack, as the C library knows it.
///
/// # Errors
/// What `pthread_getattr_np` says.
pub fn host_stack() -> io::Result<Range<u64>> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: initialises `attributes` for the calling thread.
    let error = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let (mut low, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: `attributes` was initialised above and is destroyed once, after its last use.
    let error = unsafe {
        let error = libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut bytes);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        error
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(low as u64..low as u64 + bytes as u64)
}

impl Blocks {
    fn get() -> io::Result<&'static Self> {
        if let Some(blocks) = BLOCKS.get() {
            return Ok(blocks);
        }
        let region = Region::reserve(plan::THREADS, BLOCKS_MAX * STRIDE)?;
        Ok(BLOCKS.get_or_init(|| Self { region, free: Mutex::new(Vec::new()), made: AtomicU64::new(0) }))
    }

    fn free(&self) -> MutexGuard<'_, Vec<&'static Block>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self) -> io::Result<&'static Block> {
        let mut free = self.free();
        if let Some(block) = free.pop() {
            return Ok(block);
        }
        let index = self.made.load(Ordering::Relaxed);
        let address = self.region.base() + index * STRIDE as u64;
        self.region.commit((index + 1) * STRIDE as u64)?;
        self.region.protect(address + 2 * PAGE as u64, PAGE, false)?;
        self.made.store(index + 1, Ordering::Release);
        // SAFETY: just committed, page-aligned, never unmapped; zero is a valid value of every field but the
        // ring, which `Block::new` writes before anybody reads it.
        Ok(unsafe { &*(address as *const Block) })
    }
}

/// Whether the kernel lets user code execute `wrgsbase` (since Linux 5.9, on processors since 2012).
static FSGSBASE: LazyLock<bool> = LazyLock::new(|| {
    const HWCAP2_FSGSBASE: u64 = 1 << 1;
    // SAFETY: getauxval has no preconditions.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
});

const ARCH_SET_GS: libc::c_int = 0x1001;
const ARCH_GET_GS: libc::c_int = 0x1004;

#[inline]
fn set_gs_base(base: u64) {
    if *FSGSBASE {
        // SAFETY: Rust and the C library use FS; GS is this crate's. The kernel said the instruction works.
        unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: as above, by system call.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
        assert_eq!(set, 0, "arch_prctl(ARCH_SET_GS): {}", io::Error::last_os_error());
    }
}

fn gs_base() -> u64 {
    let mut base = 0u64;
    if *FSGSBASE {
        // SAFETY: reads a register that the kernel said can be read.
        unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    } else {
        // SAFETY: writes the base to a local.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut base) };
    }
    base
}
