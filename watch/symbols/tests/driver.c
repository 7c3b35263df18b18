__declspec(dllexport) __declspec(noinline) int first(int *value) {
    return *value + 1;
}

__declspec(dllexport) __declspec(noinline) int second(int *value) {
    int sum = first(value);
    sum += first(value + 1);
    return sum;
}

int DriverEntry(void *driver, void *path) { return 0; }

/* Another build. */
#ifdef MORE
__declspec(dllexport) int third(void) { return 3; }
#endif
