/*
 * Which perf events the broker opens for who may open none any more (door_allow_events): in memory that the broker's
 * processes share, so that each that opens knows, and that the asking side gives up before its jail. For broker*.c.
 */
#pragma once

#include "target/door.h"

struct broker_events;

struct broker_events *broker_events_new(void); /* NULL when out of memory */
/* For this process alone. NULL is fine. */
void broker_events_free(struct broker_events *events);
int broker_events_allow(struct broker_events *events, const struct door_event *list, size_t num, const int *cgroups,
			size_t num_cgroups, struct err *err);
/* As door_open_event; -EPERM for what was not allowed. */
int broker_events_open(const struct broker_events *events, uint32_t index, int cgroup, uint64_t cpu, struct err *err);
