/* The runtime's own perf map, on and off in a running .NET process (.NET 8 and later), for people who want the file. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct door;
struct err;

/*
 * 0, or -errno with a sentence: not in a process younger than 5 s (enabling it then has crashed runtimes before
 * February 2026, dotnet/runtime#122472), not where it is on already (its methods would be listed twice), and off only
 * where the process was not started with it on.
 */
int maps_switch(struct door *door, pid_t pid, bool on, struct err *err);
