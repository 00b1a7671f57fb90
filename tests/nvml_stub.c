/* A library of NVML's soname for tests: one GPU of 123.456 W whose settings are written to the file NVML_STUB names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int result;
static unsigned limit_mw = 700000;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}
static int fails(const char *what) {
    const char *named = getenv("NVML_STUB_FAILS");
    return named && strstr(named, what);
}
static void say(const char *what, unsigned value) {
    FILE *file = fopen(getenv("NVML_STUB"), "a");
    if (file) { fprintf(file, "%s %u\n", what, value); fclose(file); }
}
result nvmlInitWithFlags(unsigned flags) { (void)flags; return fails("init") ? 9 : 0; }
result nvmlInit_v2(void) { return fails("init") ? 9 : 0; }
result nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(result r) {
    return r == 4 ? "Insufficient Permissions" : r == 9 ? "Driver Not Loaded" : r == 15 ? "GPU is lost" : "Not Supported";
}
result nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
result nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)1; return i ? 2 : 0; }
result nvmlDeviceGetName(void *h, char *s, unsigned n) { (void)h; snprintf(s, n, "NVIDIA L4"); return 0; }
result nvmlDeviceGetUUID(void *h, char *s, unsigned n) { (void)h; snprintf(s, n, "GPU-stub"); return 0; }
result nvmlSystemGetDriverVersion(char *s, unsigned n) { snprintf(s, n, "999.99"); return 0; }
result nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *mj) {
    (void)h;
    static double begun;
    if (!begun) begun = now();
    if (fails("lost") && now() - begun > 0.5) return 15;
    if (fails("counter")) return 3;
    *mj = 1000000 + (unsigned long long)(123456.0 * ((long)(now() * 20) / 20.0)); /* moves every 50 ms */
    return 0;
}
result nvmlDeviceGetPowerUsage(void *h, unsigned *mw) { (void)h; *mw = 123456; return fails("power") ? 4 : 0; }
result nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *mw) { (void)h; *mw = limit_mw; return 0; }
result nvmlDeviceGetPowerManagementLimit(void *h, unsigned *mw) { (void)h; *mw = 700000; return 0; }
result nvmlDeviceSetPowerManagementLimit(void *h, unsigned mw) {
    (void)h;
    if (fails("permission")) return 4;
    limit_mw = mw;
    say("limit", mw);
    return 0;
}
result nvmlDeviceSetGpuLockedClocks(void *h, unsigned low, unsigned high) {
    (void)h; (void)low;
    if (fails("permission")) return 4;
    say("lock", high);
    return 0;
}
result nvmlDeviceResetGpuLockedClocks(void *h) { (void)h; say("reset", 0); return 0; }
