/*
 * Values under a driver's Parameters key, \Registry\Machine\System\CurrentControlSet\Services\<driver>\Parameters.
 */
#ifndef PARAMETERS_H
#define PARAMETERS_H

#include "sample.h"

/* Opens the key below the path that DriverEntry was given. NULL where there is none: every value then has its default. */
HANDLE OpenParameters(PCUNICODE_STRING RegistryPath);

/* Closes what OpenParameters returned. */
void CloseParameters(HANDLE Key);

/* A REG_DWORD, or Default where it is missing or of another type. */
ULONG ReadNumber(HANDLE Key, PCWSTR Name, ULONG Default);

/*
 * A REG_SZ in ASCII, terminated, or Default where it is missing, of another type, not ASCII, or longer than Size - 1 characters.
 * Default must fit.
 */
void ReadText(HANDLE Key, PCWSTR Name, PSTR Text, ULONG Size, PCSTR Default);

/* All of these run at PASSIVE_LEVEL. */

#endif
