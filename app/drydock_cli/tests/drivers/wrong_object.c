/* A routine registered with an object that is no callback: NULL, and a finding. */
#define FAMILY "wrong_object"
#include "check.h"

static void NTAPI Note(PVOID Context, PVOID First, PVOID Second)
{
    (void)Context;
    (void)First;
    (void)Second;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    CHECK(ExRegisterCallback((PCALLBACK_OBJECT)Self, Note, NULL) == NULL);
}
