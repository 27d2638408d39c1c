/* ob_listread.h - values that list pages are made of, read alike from XML and JSON. Defined in ob_listxml.c. */
#ifndef OB_LISTREAD_H
#define OB_LISTREAD_H

#include <stddef.h>
#include <stdint.h>

/* A decimal number of up to 19 digits. 0, or -1. */
int ob_list_read_size(const char *text, size_t len, int64_t *size);
/* RFC 3339 time, fraction cut to microseconds; no zone means UTC. 0, or -1. */
int ob_list_read_time(const char *text, size_t len, int64_t *time_us);
/* Value of a hexadecimal digit, or -1. */
int ob_list_hex_digit(char c);

#endif
