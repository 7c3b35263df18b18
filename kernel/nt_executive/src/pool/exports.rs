//! The win64 faces of the pool.

use nt_abi::{Irql, NtStatus};

use super::{Kind, NO_TAG, Tag, allocate, free};
use crate::raise;

gate::exports! {
    /// What ntoskrnl exports of pool.
    pub static TABLE in "ntoskrnl.exe";
    "ExAllocatePool" = ex_allocate_pool(pool: u32, bytes: u64) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePoolWithTag" = ex_allocate_pool_with_tag(pool: u32, bytes: u64, tag: Tag) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePoolWithTagPriority" = ex_allocate_pool_with_tag_priority(pool: u32, bytes: u64, tag: Tag, priority: u32) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePoolWithQuota" = ex_allocate_pool_with_quota(pool: u32, bytes: u64) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePoolWithQuotaTag" = ex_allocate_pool_with_quota_tag(pool: u32, bytes: u64, tag: Tag) -> u64, irql <= DISPATCH, rules "K-146";
    "FsRtlAllocatePool" = fs_rtl_allocate_pool(pool: u32, bytes: u64) -> u64, irql <= DISPATCH, rules "K-146";
    "FsRtlAllocatePoolWithTag" | "FsRtlAllocatePoolWithQuotaTag" = fs_rtl_allocate_pool_with_tag(pool: u32, bytes: u64, tag: Tag) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePool2" = ex_allocate_pool2(flags: u64, bytes: u64, tag: Tag) -> u64, irql <= DISPATCH, rules "K-146";
    "ExAllocatePool3" = ex_allocate_pool3(flags: u64, bytes: u64, tag: Tag, parameters: u64, count: u32) -> u64, irql <= DISPATCH, rules "K-146";
    "ExFreePool" = ex_free_pool(block: u64), irql <= DISPATCH, rules "K-147";
    "ExFreePoolWithTag" = ex_free_pool_with_tag(block: u64, tag: Tag), irql <= DISPATCH, rules "K-147";
    "ExFreePool2" = ex_free_pool2(block: u64, tag: Tag, parameters: u64, count: u32), irql <= DISPATCH, rules "K-147";
}

/// Bits of `POOL_TYPE`.
mod pool_type {
    pub const PAGED: u32 = 1;
    pub const MUST_SUCCEED: u32 = 2;
    pub const CACHE_ALIGNED: u32 = 4;
    pub const QUOTA_FAIL_INSTEAD_OF_RAISE: u32 = 8;
    pub const RAISE_IF_ALLOCATION_FAILURE: u32 = 16;
    pub const ZERO_ALLOCATION: u32 = 1024;
}

/// Bits of `POOL_FLAGS`.
mod pool_flags {
    pub const USE_QUOTA: u64 = 0x1;
    pub const UNINITIALIZED: u64 = 0x2;
    pub const SESSION: u64 = 0x4;
    pub const CACHE_ALIGNED: u64 = 0x8;
    pub const RAISE_ON_FAILURE: u64 = 0x20;
    pub const NON_PAGED: u64 = 0x40;
    pub const NON_PAGED_EXECUTE: u64 = 0x80;
    pub const PAGED: u64 = 0x100;
    /// One of these says where.
    pub const PLACES: u64 = NON_PAGED | NON_PAGED_EXECUTE | PAGED;
    /// The flags that must be understood; the upper half may be ignored.
    pub const KNOWN: u64 = USE_QUOTA | UNINITIALIZED | SESSION | CACHE_ALIGNED | RAISE_ON_FAILURE | PLACES;
    pub const REQUIRED: u64 = 0xFFFF_FFFF;
}

/// Blocks of this size and more are page-aligned, and so on a cache line of their own.
const PAGE_ALIGNED_BYTES: u64 = 4096;

/// What all of them come down to.
struct Request {
    bytes: u64,
    tag: Tag,
    kind: Kind,
    cache_aligned: bool,
    zero: bool,
    raise: bool,
}

impl Request {
    fn typed(pool: u32, bytes: u64, tag: Tag) -> Self {
        Self {
            bytes,
            tag,
            kind: if pool & pool_type::PAGED != 0 { Kind::Paged } else { Kind::NonPaged },
            cache_aligned: pool & pool_type::CACHE_ALIGNED != 0,
            zero: pool & pool_type::ZERO_ALLOCATION != 0,
            raise: pool & (pool_type::RAISE_IF_ALLOCATION_FAILURE | pool_type::MUST_SUCCEED) != 0,
        }
    }

    /// The block's address, or 0.
    fn serve(self) -> u64 {
        let caller = gate::caller();
        if self.kind == Kind::Paged && gate::irql() > Irql::APC {
            let level = gate::irql();
            let message = format_args!("paged pool was allocated at {level:?}: it may be at APC_LEVEL at most");
            gate::finding("K-147", message, caller);
        }
        let bytes = if self.cache_aligned { self.bytes.max(PAGE_ALIGNED_BYTES) } else { self.bytes };
        let Some(address) = allocate(bytes, self.tag, self.kind, caller) else {
            if self.raise {
                raise::status(NtStatus::INSUFFICIENT_RESOURCES);
            }
            return 0;
        };
        if self.zero {
            // SAFETY: a new block of at least that size.
            unsafe { (address as *mut u8).write_bytes(0, self.bytes as usize) };
        }
        address
    }
}

/// `ExAllocatePoolWithTag` for other parts of this crate: the block's address, or 0.
pub fn allocate_typed(pool: u32, bytes: u64, tag: Tag) -> u64 {
    Request::typed(pool, bytes, tag).serve()
}

unsafe extern "win64" fn ex_allocate_pool(pool: u32, bytes: u64) -> u64 {
    Request::typed(pool, bytes, NO_TAG).serve()
}

unsafe extern "win64" fn ex_allocate_pool_with_tag(pool: u32, bytes: u64, tag: Tag) -> u64 {
    Request::typed(pool, bytes, tag).serve()
}

/// Memory runs out for all priorities at once.
unsafe extern "win64" fn ex_allocate_pool_with_tag_priority(pool: u32, bytes: u64, tag: Tag, _priority: u32) -> u64 {
    Request::typed(pool, bytes, tag).serve()
}

unsafe extern "win64" fn ex_allocate_pool_with_quota(pool: u32, bytes: u64) -> u64 {
    let raise = pool & pool_type::QUOTA_FAIL_INSTEAD_OF_RAISE == 0;
    Request { raise, ..Request::typed(pool, bytes, NO_TAG) }.serve()
}

unsafe extern "win64" fn ex_allocate_pool_with_quota_tag(pool: u32, bytes: u64, tag: Tag) -> u64 {
    let raise = pool & pool_type::QUOTA_FAIL_INSTEAD_OF_RAISE == 0;
    Request { raise, ..Request::typed(pool, bytes, tag) }.serve()
}

/// The FsRtl ones always raise. No quota is charged.
unsafe extern "win64" fn fs_rtl_allocate_pool_with_tag(pool: u32, bytes: u64, tag: Tag) -> u64 {
    Request { raise: true, ..Request::typed(pool, bytes, tag) }.serve()
}

unsafe extern "win64" fn fs_rtl_allocate_pool(pool: u32, bytes: u64) -> u64 {
    Request { raise: true, ..Request::typed(pool, bytes, NO_TAG) }.serve()
}

unsafe extern "win64" fn ex_allocate_pool2(flags: u64, bytes: u64, tag: Tag) -> u64 {
    let raise = flags & pool_flags::RAISE_ON_FAILURE != 0;
    let unknown = flags & pool_flags::REQUIRED & !pool_flags::KNOWN != 0;
    if unknown || (flags & pool_flags::PLACES).count_ones() != 1 {
        if raise {
            raise::status(NtStatus::INVALID_PARAMETER);
        }
        return 0;
    }
    Request {
        bytes,
        tag,
        kind: if flags & pool_flags::PAGED != 0 { Kind::Paged } else { Kind::NonPaged },
        cache_aligned: flags & pool_flags::CACHE_ALIGNED != 0,
        zero: flags & pool_flags::UNINITIALIZED == 0,
        raise,
    }
    .serve()
}

/// The extended parameters (priority, secure pool, NUMA node) change nothing here, except that a required one that
/// nobody understands must fail.
unsafe extern "win64" fn ex_allocate_pool3(flags: u64, bytes: u64, tag: Tag, parameters: u64, count: u32) -> u64 {
    const ENTRY: u64 = 16;
    const TYPE_PRIORITY: u64 = 1;
    const OPTIONAL: u64 = 1 << 8;
    for index in 0..u64::from(count) {
        // SAFETY: the driver's array; a bad pointer faults and is blamed on it.
        let head = unsafe { ((parameters + index * ENTRY) as *const u64).read_unaligned() };
        if head & 0xFF != TYPE_PRIORITY && head & OPTIONAL == 0 {
            return 0;
        }
    }
    // SAFETY: no pointer is passed on.
    unsafe { ex_allocate_pool2(flags, bytes, tag) }
}

unsafe extern "win64" fn ex_free_pool(block: u64) {
    free(block, None, gate::caller());
}

unsafe extern "win64" fn ex_free_pool_with_tag(block: u64, tag: Tag) {
    // Tag 0 is "whatever it is".
    free(block, (tag != 0).then_some(tag), gate::caller());
}

unsafe extern "win64" fn ex_free_pool2(block: u64, tag: Tag, _parameters: u64, _count: u32) {
    free(block, (tag != 0).then_some(tag), gate::caller());
}
