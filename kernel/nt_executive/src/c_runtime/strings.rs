//! Strings that end with a NUL, of bytes and of UTF-16.

use std::ptr;

gate::exports! {
    /// `str...`, `wcs...` and what lies beside them.
    pub static TABLE in "ntoskrnl.exe";
    "strlen" = strlen(text: *const u8) -> usize, rules "K-201";
    "strnlen" = strnlen(text: *const u8, most: usize) -> usize, rules "K-201";
    "strcpy" = strcpy(to: *mut u8, from: *const u8) -> *mut u8, rules "K-201";
    "strncpy" = strncpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8, rules "K-201";
    "strcat" = strcat(to: *mut u8, from: *const u8) -> *mut u8, rules "K-201";
    "strncat" = strncat(to: *mut u8, from: *const u8, count: usize) -> *mut u8, rules "K-201";
    "strcmp" = strcmp(a: *const u8, b: *const u8) -> i32, rules "K-201";
    "strncmp" = strncmp(a: *const u8, b: *const u8, count: usize) -> i32, rules "K-201";
    "_stricmp" = stricmp(a: *const u8, b: *const u8) -> i32, rules "K-205";
    "_strnicmp" = strnicmp(a: *const u8, b: *const u8, count: usize) -> i32, rules "K-205";
    "strchr" = strchr(text: *const u8, wanted: i32) -> *const u8, rules "K-201";
    "strrchr" = strrchr(text: *const u8, wanted: i32) -> *const u8, rules "K-201";
    "strstr" = strstr(text: *const u8, wanted: *const u8) -> *const u8, rules "K-205";
    "strspn" = strspn(text: *const u8, set: *const u8) -> usize, rules "K-201";
    "_strupr" = strupr(text: *mut u8) -> *mut u8, rules "K-201";
    "_strlwr" = strlwr(text: *mut u8) -> *mut u8, rules "K-201";
    "_strrev" = strrev(text: *mut u8) -> *mut u8, rules "K-201";
    "_strset" = strset(text: *mut u8, value: i32) -> *mut u8, rules "K-201";
    "_strnset" = strnset(text: *mut u8, value: i32, count: usize) -> *mut u8, rules "K-201";
    "wcslen" = wcslen(text: *const u16) -> usize, rules "K-201";
    "wcsnlen" = wcsnlen(text: *const u16, most: usize) -> usize, rules "K-201";
    "wcscpy" = wcscpy(to: *mut u16, from: *const u16) -> *mut u16, rules "K-201";
    "wcsncpy" = wcsncpy(to: *mut u16, from: *const u16, count: usize) -> *mut u16, rules "K-201";
    "wcscat" = wcscat(to: *mut u16, from: *const u16) -> *mut u16, rules "K-201";
    "wcsncat" = wcsncat(to: *mut u16, from: *const u16, count: usize) -> *mut u16, rules "K-201";
    "wcscmp" = wcscmp(a: *const u16, b: *const u16) -> i32, rules "K-201";
    "wcsncmp" = wcsncmp(a: *const u16, b: *const u16, count: usize) -> i32, rules "K-201";
    "_wcsicmp" = wcsicmp(a: *const u16, b: *const u16) -> i32, rules "K-201";
    "_wcsnicmp" = wcsnicmp(a: *const u16, b: *const u16, count: usize) -> i32, rules "K-201";
    "wcschr" = wcschr(text: *const u16, wanted: u16) -> *const u16, rules "K-201";
    "wcsrchr" = wcsrchr(text: *const u16, wanted: u16) -> *const u16, rules "K-201";
    "wcsstr" = wcsstr(text: *const u16, wanted: *const u16) -> *const u16, rules "K-201";
    "wcsspn" = wcsspn(text: *const u16, set: *const u16) -> usize, rules "K-201";
    "_wcsupr" = wcsupr(text: *mut u16) -> *mut u16, rules "K-201";
    "_wcslwr" = wcslwr(text: *mut u16) -> *mut u16, rules "K-201";
    "_wcsrev" = wcsrev(text: *mut u16) -> *mut u16, rules "K-201";
    "_wcsnset" = wcsnset(text: *mut u16, value: u16, count: usize) -> *mut u16, rules "K-201";
}

/// A character of either kind.
trait Unit: Copy + Eq + Into<i32> {
    const NUL: Self;
    /// Its small letter, of A to Z only: the kernel's C run-time knows no locale.
    fn small(self) -> Self;
    /// Its capital letter, of a to z only.
    fn capital(self) -> Self;
}

impl Unit for u8 {
    const NUL: Self = 0;
    fn small(self) -> Self {
        self.to_ascii_lowercase()
    }
    fn capital(self) -> Self {
        self.to_ascii_uppercase()
    }
}

impl Unit for u16 {
    const NUL: Self = 0;
    fn small(self) -> Self {
        if (0x41..=0x5A).contains(&self) { self + 0x20 } else { self }
    }
    fn capital(self) -> Self {
        if (0x61..=0x7A).contains(&self) { self - 0x20 } else { self }
    }
}

/// Characters in front of the NUL, `most` at most.
///
/// # Safety
/// The driver's string; a bad one faults and is blamed on it. The same holds for the whole module.
unsafe fn length<T: Unit>(text: *const T, most: usize) -> usize {
    let mut length = 0;
    // SAFETY: see above. Drivers' strings need not be aligned.
    while length < most && unsafe { text.add(length).read_unaligned() } != T::NUL {
        length += 1;
    }
    length
}

unsafe fn copy<T: Unit>(to: *mut T, from: *const T) -> *mut T {
    // SAFETY: see `length`.
    unsafe {
        let bytes = (length(from, usize::MAX) + 1) * size_of::<T>();
        ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes);
    }
    to
}

/// Fills up with NULs, and leaves out the terminator of a text that is too long, as the standard says.
unsafe fn copy_counted<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    // SAFETY: see `length`.
    unsafe {
        let taken = length(from, count);
        ptr::copy(from.cast::<u8>(), to.cast::<u8>(), taken * size_of::<T>());
        (taken..count).for_each(|place| to.add(place).write_unaligned(T::NUL));
    }
    to
}

unsafe fn append<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    // SAFETY: see `length`.
    unsafe {
        let (end, taken) = (to.add(length(to, usize::MAX)), length(from, count));
        ptr::copy(from.cast::<u8>(), end.cast::<u8>(), taken * size_of::<T>());
        end.add(taken).write_unaligned(T::NUL);
    }
    to
}

unsafe fn compare<T: Unit>(a: *const T, b: *const T, count: usize, fold: impl Fn(T) -> T) -> i32 {
    for place in 0..count {
        // SAFETY: see `length`.
        let (a, b) = unsafe { (fold(a.add(place).read_unaligned()), fold(b.add(place).read_unaligned())) };
        if a != b {
            return a.into() - b.into();
        }
        if a == T::NUL {
            break;
        }
    }
    0
}

/// The first place of `wanted`, which may be the NUL.
unsafe fn first<T: Unit>(text: *const T, wanted: T) -> *const T {
    let mut place = text;
    loop {
        // SAFETY: see `length`.
        let unit = unsafe { place.read_unaligned() };
        if unit == wanted {
            return place;
        }
        if unit == T::NUL {
            return ptr::null();
        }
        place = place.wrapping_add(1);
    }
}

unsafe fn last<T: Unit>(text: *const T, wanted: T) -> *const T {
    // SAFETY: see `length`.
    let length = unsafe { length(text, usize::MAX) };
    // SAFETY: see `length`.
    let found = (0..=length).rev().find(|&place| unsafe { text.add(place).read_unaligned() } == wanted);
    found.map_or(ptr::null(), |place| text.wrapping_add(place))
}

unsafe fn within<T: Unit>(text: *const T, wanted: *const T) -> *const T {
    // SAFETY: see `length`.
    unsafe {
        let (length, wanted_length) = (length(text, usize::MAX), length(wanted, usize::MAX));
        let is_at = |place: usize| {
            (0..wanted_length).all(|unit| text.add(place + unit).read_unaligned() == wanted.add(unit).read_unaligned())
        };
        let found = length.checked_sub(wanted_length).and_then(|last| (0..=last).find(|&place| is_at(place)));
        found.map_or(ptr::null(), |place| text.wrapping_add(place))
    }
}

/// How many characters at the start are all members of `set`.
unsafe fn span<T: Unit>(text: *const T, set: *const T) -> usize {
    let mut count = 0;
    loop {
        // SAFETY: see `length`.
        unsafe {
            let unit = text.add(count).read_unaligned();
            if unit == T::NUL || first(set, unit).is_null() {
                return count;
            }
        }
        count += 1;
    }
}

unsafe fn map<T: Unit>(text: *mut T, count: usize, change: impl Fn(T) -> T) -> *mut T {
    // SAFETY: see `length`.
    unsafe {
        for place in 0..length(text, count) {
            let unit = text.add(place);
            unit.write_unaligned(change(unit.read_unaligned()));
        }
    }
    text
}

unsafe fn reverse<T: Unit>(text: *mut T) -> *mut T {
    // SAFETY: see `length`.
    unsafe {
        let length = length(text, usize::MAX);
        for place in 0..length / 2 {
            let (low, high) = (text.add(place), text.add(length - 1 - place));
            let unit = low.read_unaligned();
            low.write_unaligned(high.read_unaligned());
            high.write_unaligned(unit);
        }
    }
    text
}

macro_rules! forward {
    ($($name:ident ($($parameter:ident: $ty:ty),*) $(-> $result:ty)? = $call:expr;)*) => {
        $(unsafe extern "win64" fn $name($($parameter: $ty),*) $(-> $result)? {
            // SAFETY: see `length`.
            unsafe { $call }
        })*
    };
}

forward! {
    strlen(text: *const u8) -> usize = length(text, usize::MAX);
    strnlen(text: *const u8, most: usize) -> usize = length(text, most);
    strcpy(to: *mut u8, from: *const u8) -> *mut u8 = copy(to, from);
    strncpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 = copy_counted(to, from, count);
    strcat(to: *mut u8, from: *const u8) -> *mut u8 = append(to, from, usize::MAX);
    strncat(to: *mut u8, from: *const u8, count: usize) -> *mut u8 = append(to, from, count);
    strcmp(a: *const u8, b: *const u8) -> i32 = compare(a, b, usize::MAX, |unit| unit).signum();
    strncmp(a: *const u8, b: *const u8, count: usize) -> i32 = compare(a, b, count, |unit| unit);
    stricmp(a: *const u8, b: *const u8) -> i32 = compare(a, b, usize::MAX, u8::small);
    strnicmp(a: *const u8, b: *const u8, count: usize) -> i32 = compare(a, b, count, u8::small);
    strchr(text: *const u8, wanted: i32) -> *const u8 = first(text, wanted as u8);
    strrchr(text: *const u8, wanted: i32) -> *const u8 = last(text, wanted as u8);
    strstr(text: *const u8, wanted: *const u8) -> *const u8 = within(text, wanted);
    strspn(text: *const u8, set: *const u8) -> usize = span(text, set);
    strupr(text: *mut u8) -> *mut u8 = map(text, usize::MAX, u8::capital);
    strlwr(text: *mut u8) -> *mut u8 = map(text, usize::MAX, u8::small);
    strrev(text: *mut u8) -> *mut u8 = reverse(text);
    strset(text: *mut u8, value: i32) -> *mut u8 = map(text, usize::MAX, |_| value as u8);
    strnset(text: *mut u8, value: i32, count: usize) -> *mut u8 = map(text, count, |_| value as u8);
    wcslen(text: *const u16) -> usize = length(text, usize::MAX);
    wcsnlen(text: *const u16, most: usize) -> usize = length(text, most);
    wcscpy(to: *mut u16, from: *const u16) -> *mut u16 = copy(to, from);
    wcsncpy(to: *mut u16, from: *const u16, count: usize) -> *mut u16 = copy_counted(to, from, count);
    wcscat(to: *mut u16, from: *const u16) -> *mut u16 = append(to, from, usize::MAX);
    wcsncat(to: *mut u16, from: *const u16, count: usize) -> *mut u16 = append(to, from, count);
    wcscmp(a: *const u16, b: *const u16) -> i32 = compare(a, b, usize::MAX, |unit| unit).signum();
    wcsncmp(a: *const u16, b: *const u16, count: usize) -> i32 = compare(a, b, count, |unit| unit);
    wcsicmp(a: *const u16, b: *const u16) -> i32 = compare(a, b, usize::MAX, u16::small);
    wcsnicmp(a: *const u16, b: *const u16, count: usize) -> i32 = compare(a, b, count, u16::small);
    wcschr(text: *const u16, wanted: u16) -> *const u16 = first(text, wanted);
    wcsrchr(text: *const u16, wanted: u16) -> *const u16 = last(text, wanted);
    wcsstr(text: *const u16, wanted: *const u16) -> *const u16 = within(text, wanted);
    wcsspn(text: *const u16, set: *const u16) -> usize = span(text, set);
    wcsupr(text: *mut u16) -> *mut u16 = map(text, usize::MAX, u16::capital);
    wcslwr(text: *mut u16) -> *mut u16 = map(text, usize::MAX, u16::small);
    wcsrev(text: *mut u16) -> *mut u16 = reverse(text);
    wcsnset(text: *mut u16, value: u16, count: usize) -> *mut u16 = map(text, count, |_| value);
}
