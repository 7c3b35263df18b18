/* SIDs, access lists, descriptors, tokens and access checks (K-177). */
#define FAMILY "security"
#include "check.h"

IMPORT(NTSTATUS, RtlInitializeSid, PSID, const SID_IDENTIFIER_AUTHORITY *, UCHAR);
IMPORT(ULONG, RtlLengthSid, PSID);
IMPORT(ULONG, RtlLengthRequiredSid, ULONG);
IMPORT(BOOLEAN, RtlValidSid, PSID);
IMPORT(BOOLEAN, RtlEqualSid, PSID, PSID);
IMPORT(NTSTATUS, RtlCopySid, ULONG, PSID, PSID);
IMPORT(PULONG, RtlSubAuthoritySid, PSID, ULONG);
IMPORT(PUCHAR, RtlSubAuthorityCountSid, PSID);
IMPORT(NTSTATUS, RtlConvertSidToUnicodeString, PUNICODE_STRING, PSID, BOOLEAN);
IMPORT_DATA(PSE_EXPORTS, SeExports);
IMPORT(NTSTATUS, RtlCreateAcl, PACL, ULONG, ULONG);
IMPORT(NTSTATUS, RtlAddAccessAllowedAce, PACL, ULONG, ACCESS_MASK, PSID);
IMPORT(NTSTATUS, RtlGetAce, PACL, ULONG, PVOID *);
IMPORT(NTSTATUS, RtlCreateSecurityDescriptor, PVOID, ULONG);
IMPORT(BOOLEAN, RtlValidSecurityDescriptor, PVOID);
IMPORT(ULONG, RtlLengthSecurityDescriptor, PVOID);
IMPORT(NTSTATUS, RtlSetDaclSecurityDescriptor, PVOID, BOOLEAN, PACL, BOOLEAN);
IMPORT(NTSTATUS, RtlGetDaclSecurityDescriptor, PVOID, PBOOLEAN, PACL *, PBOOLEAN);
IMPORT(NTSTATUS, RtlSetOwnerSecurityDescriptor, PVOID, PSID, BOOLEAN);
IMPORT(NTSTATUS, RtlGetOwnerSecurityDescriptor, PVOID, PSID *, PBOOLEAN);
IMPORT(NTSTATUS, RtlSetGroupSecurityDescriptor, PVOID, PSID, BOOLEAN);
IMPORT(NTSTATUS, RtlGetGroupSecurityDescriptor, PVOID, PSID *, PBOOLEAN);
IMPORT(NTSTATUS, RtlAbsoluteToSelfRelativeSD, PVOID, PVOID, PULONG);
IMPORT(NTSTATUS, ZwOpenProcessToken, HANDLE, ACCESS_MASK, PHANDLE);
IMPORT(NTSTATUS, NtOpenProcessToken, HANDLE, ACCESS_MASK, PHANDLE);
IMPORT(NTSTATUS, ZwOpenProcessTokenEx, HANDLE, ACCESS_MASK, ULONG, PHANDLE);
IMPORT(NTSTATUS, NtOpenProcessTokenEx, HANDLE, ACCESS_MASK, ULONG, PHANDLE);
IMPORT(NTSTATUS, ZwOpenThreadToken, HANDLE, ACCESS_MASK, BOOLEAN, PHANDLE);
IMPORT(NTSTATUS, NtOpenThreadToken, HANDLE, ACCESS_MASK, BOOLEAN, PHANDLE);
IMPORT(NTSTATUS, ZwOpenThreadTokenEx, HANDLE, ACCESS_MASK, BOOLEAN, ULONG, PHANDLE);
IMPORT(NTSTATUS, NtOpenThreadTokenEx, HANDLE, ACCESS_MASK, BOOLEAN, ULONG, PHANDLE);
IMPORT(NTSTATUS, ZwQueryInformationToken, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQueryInformationToken, HANDLE, ULONG, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, SeQueryInformationToken, PACCESS_TOKEN, ULONG, PVOID *);
IMPORT(PACCESS_TOKEN, PsReferencePrimaryToken, PEPROCESS);
IMPORT(PACCESS_TOKEN, PsReferenceImpersonationToken, PETHREAD, PBOOLEAN, PBOOLEAN, PULONG);
IMPORT(void, PsDereferencePrimaryToken, PACCESS_TOKEN);
IMPORT(void, PsDereferenceImpersonationToken, PACCESS_TOKEN);
IMPORT(ULONG, SeTokenType, PACCESS_TOKEN);
IMPORT(BOOLEAN, SeTokenIsAdmin, PACCESS_TOKEN);
IMPORT(BOOLEAN, SeTokenIsRestricted, PACCESS_TOKEN);
IMPORT(NTSTATUS, SeQueryAuthenticationIdToken, PACCESS_TOKEN, PLUID);
IMPORT(NTSTATUS, SeQuerySessionIdToken, PACCESS_TOKEN, PULONG);
IMPORT_DATA(POBJECT_TYPE, SeTokenObjectType);
IMPORT(BOOLEAN, SeAccessCheck, PVOID, PVOID, BOOLEAN, ACCESS_MASK, ACCESS_MASK, PVOID, PGENERIC_MAPPING, KPROCESSOR_MODE, PACCESS_MASK, PNTSTATUS);
IMPORT(void, SeCaptureSubjectContext, PSECURITY_SUBJECT_CONTEXT);
IMPORT(void, SeReleaseSubjectContext, PSECURITY_SUBJECT_CONTEXT);
IMPORT(void, SeLockSubjectContext, PSECURITY_SUBJECT_CONTEXT);
IMPORT(void, SeUnlockSubjectContext, PSECURITY_SUBJECT_CONTEXT);
IMPORT(BOOLEAN, SeSinglePrivilegeCheck, LUID, KPROCESSOR_MODE);

static const SID_IDENTIFIER_AUTHORITY NtAuthority = {{0, 0, 0, 0, 0, 5}};
/* S-1-5-32-544 and S-1-5-18. */
static UCHAR AdministratorsRoom[16], SystemRoom[12];
#define ADMINISTRATORS ((PSID)AdministratorsRoom)
#define SYSTEM ((PSID)SystemRoom)

static BOOLEAN Is(PUNICODE_STRING Name, PCWSTR Text)
{
    UNICODE_STRING text;

    RtlInitUnicodeString(&text, Text);
    return Name->Length == text.Length && RtlCompareMemory(Name->Buffer, text.Buffer, text.Length) == text.Length;
}

static void Sids(void)
{
    UCHAR room[16];
    UNICODE_STRING text;

    CHECK_NUMBER(16, CALL(RtlLengthRequiredSid)(2));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitializeSid)(ADMINISTRATORS, &NtAuthority, 2));
    *CALL(RtlSubAuthoritySid)(ADMINISTRATORS, 0) = 32;
    *CALL(RtlSubAuthoritySid)(ADMINISTRATORS, 1) = 544;
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlInitializeSid)(SYSTEM, &NtAuthority, 1));
    *CALL(RtlSubAuthoritySid)(SYSTEM, 0) = 18;
    CHECK_NUMBER(2, *CALL(RtlSubAuthorityCountSid)(ADMINISTRATORS));
    CHECK(CALL(RtlLengthSid)(ADMINISTRATORS) == 16 && CALL(RtlLengthSid)(SYSTEM) == 12);
    CHECK(CALL(RtlValidSid)(ADMINISTRATORS) && CALL(RtlValidSid)(SYSTEM));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlCopySid)(15, room, ADMINISTRATORS));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCopySid)(16, room, ADMINISTRATORS));
    CHECK(CALL(RtlEqualSid)(room, ADMINISTRATORS) && !CALL(RtlEqualSid)(room, SYSTEM));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlConvertSidToUnicodeString)(&text, room, TRUE));
    CHECK(Is(&text, L"S-1-5-32-544"));
    RtlFreeUnicodeString(&text);
    room[0] = 2;
    CHECK(!CALL(RtlValidSid)(room));
    CHECK(CALL(RtlEqualSid)(VALUE(SeExports)->SeLocalSystemSid, SYSTEM));
    CHECK(CALL(RtlEqualSid)(VALUE(SeExports)->SeAliasAdminsSid, ADMINISTRATORS));
    CHECK(VALUE(SeExports)->SeTcbPrivilege.LowPart == SE_TCB_PRIVILEGE);
}

static void Descriptors(void)
{
    UCHAR aclRoom[256], relativeRoom[256];
    PACL acl = (PACL)aclRoom, read = NULL;
    SECURITY_DESCRIPTOR descriptor;
    BOOLEAN present = 77, defaulted = 77;
    ACCESS_ALLOWED_ACE *ace = NULL;
    PSID sid = NULL;
    ULONG room = 8;

    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlCreateAcl)(acl, 7, ACL_REVISION));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlCreateAcl)(acl, 64, 77));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCreateAcl)(acl, 48, ACL_REVISION));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAddAccessAllowedAce)(acl, ACL_REVISION, GENERIC_READ, ADMINISTRATORS));
    CHECK_STATUS(STATUS_ALLOTTED_SPACE_EXCEEDED, CALL(RtlAddAccessAllowedAce)(acl, ACL_REVISION, GENERIC_READ, ADMINISTRATORS));
    CHECK_NUMBER(1, acl->AceCount);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetAce)(acl, 0, (PVOID *)&ace));
    CHECK(ace->Mask == GENERIC_READ && CALL(RtlEqualSid)(&ace->SidStart, ADMINISTRATORS));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlGetAce)(acl, 1, (PVOID *)&ace));

    CHECK_STATUS(STATUS_UNKNOWN_REVISION, CALL(RtlCreateSecurityDescriptor)(&descriptor, 77));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlCreateSecurityDescriptor)(&descriptor, SECURITY_DESCRIPTOR_REVISION));
    CHECK(CALL(RtlValidSecurityDescriptor)(&descriptor));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetDaclSecurityDescriptor)(&descriptor, &present, &read, &defaulted));
    CHECK(!present);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlSetDaclSecurityDescriptor)(&descriptor, TRUE, acl, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlSetOwnerSecurityDescriptor)(&descriptor, ADMINISTRATORS, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlSetGroupSecurityDescriptor)(&descriptor, SYSTEM, TRUE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetDaclSecurityDescriptor)(&descriptor, &present, &read, &defaulted));
    CHECK(present && read == acl && !defaulted);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetOwnerSecurityDescriptor)(&descriptor, &sid, &defaulted));
    CHECK(sid == ADMINISTRATORS && !defaulted);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetGroupSecurityDescriptor)(&descriptor, &sid, &defaulted));
    CHECK(sid == SYSTEM && defaulted);

    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlAbsoluteToSelfRelativeSD)(&descriptor, relativeRoom, &room));
    CHECK_NUMBER(20 + 16 + 12 + 48, room);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAbsoluteToSelfRelativeSD)(&descriptor, relativeRoom, &room));
    CHECK(CALL(RtlValidSecurityDescriptor)(relativeRoom));
    CHECK_NUMBER(room, CALL(RtlLengthSecurityDescriptor)(relativeRoom));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetOwnerSecurityDescriptor)(relativeRoom, &sid, &defaulted));
    CHECK((PUCHAR)sid > relativeRoom && (PUCHAR)sid < relativeRoom + room && CALL(RtlEqualSid)(sid, ADMINISTRATORS));
}

/* The one token is the local system's. */
static void Tokens(void)
{
    PACCESS_TOKEN token = CALL(PsReferencePrimaryToken)(PsGetCurrentProcess());
    BOOLEAN copy = 77, effective = 77;
    ULONG level = 77, needed = 0, session = 77, i;
    HANDLE handles[4], none;
    UCHAR room[64];
    PTOKEN_USER user = NULL;
    LUID id = {77, 77};

    CHECK(token != NULL && CALL(SeTokenType)(token) == TokenPrimary);
    CHECK(CALL(SeTokenIsAdmin)(token) && !CALL(SeTokenIsRestricted)(token));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByPointer(token, 0, VALUE(SeTokenObjectType), KernelMode));
    ObDereferenceObject(token);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeQueryAuthenticationIdToken)(token, &id));
    CHECK(id.LowPart == 0x3E7 && id.HighPart == 0);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeQuerySessionIdToken)(token, &session));
    CHECK_NUMBER(0, session);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeQueryInformationToken)(token, TokenUser, (PVOID *)&user));
    CHECK(CALL(RtlEqualSid)(user->User.Sid, SYSTEM));
    ExFreePool(user);
    CALL(PsDereferencePrimaryToken)(token);
    CHECK(CALL(PsReferenceImpersonationToken)((PETHREAD)KeGetCurrentThread(), &copy, &effective, &level) == NULL);
    CALL(PsDereferenceImpersonationToken)(NULL);

    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenProcessToken)(ZwCurrentProcess(), TOKEN_QUERY, &handles[0]));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenProcessToken)(ZwCurrentProcess(), TOKEN_QUERY, &handles[1]));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwOpenProcessTokenEx)(ZwCurrentProcess(), TOKEN_QUERY, OBJ_KERNEL_HANDLE, &handles[2]));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtOpenProcessTokenEx)(ZwCurrentProcess(), TOKEN_QUERY, OBJ_KERNEL_HANDLE, &handles[3]));
    CHECK_STATUS(STATUS_NO_TOKEN, CALL(ZwOpenThreadToken)(ZwCurrentThread(), TOKEN_QUERY, TRUE, &none));
    CHECK_STATUS(STATUS_NO_TOKEN, CALL(NtOpenThreadToken)(ZwCurrentThread(), TOKEN_QUERY, TRUE, &none));
    CHECK_STATUS(STATUS_NO_TOKEN, CALL(ZwOpenThreadTokenEx)(ZwCurrentThread(), TOKEN_QUERY, TRUE, 0, &none));
    CHECK_STATUS(STATUS_NO_TOKEN, CALL(NtOpenThreadTokenEx)(ZwCurrentThread(), TOKEN_QUERY, TRUE, 0, &none));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(ZwQueryInformationToken)(handles[0], TokenUser, room, 8, &needed));
    CHECK_NUMBER(28, needed);
    for (i = 0; i < 4; i++) {
        CHECK_STATUS(STATUS_SUCCESS, CALL(NtQueryInformationToken)(handles[i], TokenUser, room, sizeof(room), &needed));
        CHECK(CALL(RtlEqualSid)(((PTOKEN_USER)room)->User.Sid, SYSTEM));
        ZwClose(handles[i]);
    }
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwQueryInformationToken)(handles[0], TokenUser, room, sizeof(room), &needed));
}

static void AccessChecks(void)
{
    static const GENERIC_MAPPING Mapping = {1, 2, 4, 0x1F};
    SECURITY_SUBJECT_CONTEXT context;
    SECURITY_DESCRIPTOR descriptor;
    ACCESS_MASK granted = 0;
    NTSTATUS status = STATUS_PENDING;
    LUID privilege = {SE_TCB_PRIVILEGE, 0};

    CALL(RtlCreateSecurityDescriptor)(&descriptor, SECURITY_DESCRIPTOR_REVISION);
    CALL(SeCaptureSubjectContext)(&context);
    CHECK(context.PrimaryToken != NULL && context.ClientToken == NULL);
    CALL(SeLockSubjectContext)(&context);
    CHECK(CALL(SeAccessCheck)(&descriptor, &context, TRUE, GENERIC_READ | GENERIC_WRITE, 0, NULL, (PGENERIC_MAPPING)&Mapping,
                              KernelMode, &granted, &status));
    CALL(SeUnlockSubjectContext)(&context);
    CHECK_STATUS(STATUS_SUCCESS, status);
    CHECK_NUMBER(3, granted);
    CALL(SeReleaseSubjectContext)(&context);
    CHECK(CALL(SeSinglePrivilegeCheck)(privilege, KernelMode));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Sids();
    Descriptors();
    Tokens();
    AccessChecks();
}
