//! The `_s` functions: they know the destination's size and leave it empty rather than cut a text.
//!
//! In the kernel a wrong call has no handler to call; it gives an error number.

use std::ptr;

use gate::memory::put;

gate::exports! {
    /// Copies with a size.
    pub static TABLE in "ntoskrnl.exe";
    "strcpy_s" = strcpy_s(to: *mut u8, size: usize, from: *const u8) -> i32, rules "K-201";
    "strncpy_s" = strncpy_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32, rules "K-201";
    "strcat_s" = strcat_s(to: *mut u8, size: usize, from: *const u8) -> i32, rules "K-201";
    "strncat_s" = strncat_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32, rules "K-201";
    "wcscpy_s" = wcscpy_s(to: *mut u16, size: usize, from: *const u16) -> i32, rules "K-201";
    "wcsncpy_s" = wcsncpy_s(to: *mut u16, size: usize, from: *const u16, count: usize) -> i32, rules "K-201";
    "wcscat_s" = wcscat_s(to: *mut u16, size: usize, from: *const u16) -> i32, rules "K-201";
    "wcsncat_s" = wcsncat_s(to: *mut u16, size: usize, from: *const u16, count: usize) -> i32, rules "K-201";
    "memcpy_s" = memcpy_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32, rules "K-201";
    "memmove_s" = memmove_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32, rules "K-201";
    "strtok_s" = strtok_s(text: *mut u8, set: *const u8, context: *mut *mut u8) -> *mut u8, rules "K-201";
}

/// Error numbers.
const OK: i32 = 0;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const STRUNCATE: i32 = 80;
/// `_TRUNCATE`: cut instead of failing.
const TRUNCATE: usize = usize::MAX;

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

/// Copies up to `count` characters of `from` and a NUL behind the first `start` characters of `to`.
unsafe fn copy<T: Copy + Default + PartialEq>(
    to: *mut T,
    size: usize,
    start: usize,
    from: *const T,
    count: usize,
) -> i32 {
    let nul = T::default();
    // SAFETY: the driver's texts.
    unsafe {
        if from.is_null() {
            if count == 0 && !to.is_null() && size != 0 {
                to.add(start).write_unaligned(nul);
                return OK;
            }
            if !to.is_null() && size != 0 {
                to.write_unaligned(nul);
            }
            return EINVAL;
        }
        let room = size - start;
        for place in 0..room {
            let unit = if place < count { from.add(place).read_unaligned() } else { nul };
            to.add(start + place).write_unaligned(unit);
            if unit == nul {
                return OK;
            }
        }
        if count == TRUNCATE {
            to.add(size - 1).write_unaligned(nul);
            return STRUNCATE;
        }
        to.write_unaligned(nul);
        ERANGE
    }
}

unsafe fn set<T: Copy + Default + PartialEq>(to: *mut T, size: usize, from: *const T, count: usize) -> i32 {
    if count == 0 && to.is_null() && size == 0 {
        return OK;
    }
    if to.is_null() || size == 0 {
        return EINVAL;
    }
    // SAFETY: the driver's texts.
    unsafe { copy(to, size, 0, from, count) }
}

unsafe fn append<T: Copy + Default + PartialEq>(to: *mut T, size: usize, from: *const T, count: usize) -> i32 {
    if count == 0 && to.is_null() && size == 0 {
        return OK;
    }
    if to.is_null() || size == 0 {
        return EINVAL;
    }
    // SAFETY: the driver's texts.
    unsafe {
        let Some(end) = (0..size).find(|&place| to.add(place).read_unaligned() == T::default()) else {
            to.write_unaligned(T::default());
            return EINVAL;
        };
        copy(to, size, end, from, count)
    }
}

macro_rules! forward {
    ($($name:ident($ty:ty, $($count:ident)?) = $function:ident($limit:expr);)*) => {
        $(unsafe extern "win64" fn $name(to: *mut $ty, size: usize, from: *const $ty $(, $count: usize)?) -> i32 {
            // SAFETY: the driver's texts.
            unsafe { $function(to, size, from, $limit) }
        })*
    };
}

/// More characters than any destination has, and not `_TRUNCATE`.
const ALL: usize = usize::MAX - 1;

forward! {
    strcpy_s(u8,) = set(ALL);
    strcat_s(u8,) = append(ALL);
    wcscpy_s(u16,) = set(ALL);
    wcscat_s(u16,) = append(ALL);
}

unsafe extern "win64" fn strncpy_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32 {
    // SAFETY: the driver's texts.
    unsafe { set(to, size, from, count) }
}

unsafe extern "win64" fn strncat_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32 {
    // SAFETY: the driver's texts.
    unsafe { append(to, size, from, count) }
}

unsafe extern "win64" fn wcsncpy_s(to: *mut u16, size: usize, from: *const u16, count: usize) -> i32 {
    // SAFETY: the driver's texts.
    unsafe { set(to, size, from, count) }
}

unsafe extern "win64" fn wcsncat_s(to: *mut u16, size: usize, from: *const u16, count: usize) -> i32 {
    // SAFETY: the driver's texts.
    unsafe { append(to, size, from, count) }
}

/// Clears the destination when the copy is refused.
unsafe extern "win64" fn memcpy_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32 {
    if count == 0 {
        return OK;
    }
    if to.is_null() {
        return EINVAL;
    }
    // SAFETY: the driver's ranges.
    unsafe {
        if from.is_null() || size < count {
            to.write_bytes(0, size);
            return if from.is_null() { EINVAL } else { ERANGE };
        }
        ptr::copy(from, to, count);
    }
    OK
}

/// Unlike `memcpy_s`, it leaves the destination alone when it refuses.
unsafe extern "win64" fn memmove_s(to: *mut u8, size: usize, from: *const u8, count: usize) -> i32 {
    if count == 0 {
        return OK;
    }
    if to.is_null() || from.is_null() {
        return EINVAL;
    }
    if size < count {
        return ERANGE;
    }
    // SAFETY: the driver's ranges.
    unsafe { ptr::copy(from, to, count) };
    OK
}

unsafe extern "win64" fn strtok_s(text: *mut u8, set: *const u8, context: *mut *mut u8) -> *mut u8 {
    // SAFETY: the driver's texts.
    unsafe {
        if context.is_null() || set.is_null() || (text.is_null() && context.read_unaligned().is_null()) {
            return ptr::null_mut();
        }
        let is_member =
            |byte: u8| (0..).map(|place| *set.add(place)).take_while(|&one| one != 0).any(|one| one == byte);
        let mut start = if text.is_null() { context.read_unaligned() } else { text };
        while *start != 0 && is_member(*start) {
            start = start.add(1);
        }
        let mut end = start;
        while *end != 0 && !is_member(*end) {
            end = end.add(1);
        }
        if *end != 0 {
            end.write(0);
            put(context, end.add(1));
        } else {
            put(context, end);
        }
        if *start == 0 { ptr::null_mut() } else { start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(initial: &str, size: usize, call: impl FnOnce(*mut u8, usize) -> i32) -> (i32, String) {
        let mut buffer = format!("{initial}\0").into_bytes();
        buffer.resize(buffer.len().max(size), b'#');
        let result = call(buffer.as_mut_ptr(), size);
        (result, String::from_utf8_lossy(&buffer).split('\0').next().unwrap_or_default().to_owned())
    }

    fn text(text: &'static std::ffi::CStr) -> *const u8 {
        text.as_ptr().cast()
    }

    #[test]
    fn text_that_does_not_fit_leaves_the_destination_empty() {
        // SAFETY: texts of this test, here and below.
        unsafe {
            assert_eq!(run("old", 4, |to, size| strcpy_s(to, size, text(c"abc"))), (OK, "abc".into()));
            assert_eq!(run("old", 3, |to, size| strcpy_s(to, size, text(c"abc"))), (ERANGE, String::new()));
            assert_eq!(run("ab", 4, |to, size| strcat_s(to, size, text(c"c"))), (OK, "abc".into()));
            assert_eq!(run("ab", 4, |to, size| strcat_s(to, size, text(c"cd"))), (ERANGE, String::new()));
            assert_eq!(run("abcd", 4, |to, size| strcat_s(to, size, text(c"e"))), (EINVAL, String::new()));
        }
    }

    #[test]
    fn truncation_is_done_where_it_is_asked_for() {
        // SAFETY: texts of this test.
        unsafe {
            let cut = run("", 3, |to, size| strncpy_s(to, size, text(c"abcd"), TRUNCATE));
            assert_eq!(cut, (STRUNCATE, "ab".into()));
            assert_eq!(run("", 3, |to, size| strncpy_s(to, size, text(c"abcd"), 2)), (OK, "ab".into()));
            assert_eq!(run("a", 4, |to, size| strncat_s(to, size, text(c"bcd"), 2)), (OK, "abc".into()));
        }
    }

    #[test]
    fn null_pointers_are_invalid() {
        // SAFETY: null pointers are what is tested.
        unsafe {
            assert_eq!(strcpy_s(ptr::null_mut(), 3, text(c"a")), EINVAL);
            assert_eq!(run("old", 4, |to, size| strcpy_s(to, size, ptr::null())), (EINVAL, String::new()));
            assert_eq!(run("old", 4, |to, _| memcpy_s(to, 2, text(c"abc"), 3)), (ERANGE, String::new()));
            assert_eq!(run("old", 4, |to, _| memmove_s(to, 2, text(c"abc"), 3)), (ERANGE, "old".into()));
        }
    }

    #[test]
    fn tokens_are_cut_at_any_member_of_the_set() {
        let mut buffer = *b",a,;bc\0";
        let mut context = ptr::null_mut();
        // SAFETY: texts of this test.
        unsafe {
            let first = strtok_s(buffer.as_mut_ptr(), text(c",;"), &mut context);
            assert_eq!(*first.cast::<[u8; 2]>(), *b"a\0");
            let second = strtok_s(ptr::null_mut(), text(c",;"), &mut context);
            assert_eq!(*second.cast::<[u8; 3]>(), *b"bc\0");
            assert!(strtok_s(ptr::null_mut(), text(c",;"), &mut context).is_null());
        }
    }
}
