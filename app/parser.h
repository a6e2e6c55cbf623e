/* The process that parses what targets control: its services, and how it is asked. */
#pragma once

struct door;
struct err;
struct worker;

/* Runs as that process until `sock` is closed at its other end. For broker_start_with_parser. */
void parser_run(int sock);
/* Whoever asks it. `door` is borrowed, and has a broker behind it that was started with parser_run. */
int parser_new(struct door *door, struct worker **ret, struct err *err);
