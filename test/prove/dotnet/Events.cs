// What TraceEvent reads in a nettrace stream of code that comes, goes or is there, as test/runtimes/nettrace_list -r
// prints it. usage: Events FILE
using System;
using System.IO;
using Microsoft.Diagnostics.Tracing;
using Microsoft.Diagnostics.Tracing.Parsers;
using Microsoft.Diagnostics.Tracing.Parsers.Clr;

using var source = new EventPipeEventSource(args[0]);
using var o = new StreamWriter(Console.OpenStandardOutput(), new System.Text.UTF8Encoding(false));
void Method(string kind, MethodLoadUnloadVerboseTraceData e)
{
    if (e.MethodSize > 0 && e.MethodStartAddress != 0)
        o.Write($"{kind} {Math.Round(e.TimeStampRelativeMSec * 1000)} {e.MethodStartAddress:x} {e.MethodSize:x} {e.ModuleID:x} {e.MethodID:x} {(int)e.MethodFlags & 15:x} {e.MethodNamespace}::{e.MethodName}\n");
}
source.Clr.MethodLoadVerbose += e => Method("load", e);
source.Clr.MethodUnloadVerbose += e => Method("unload", e);
var rundown = new ClrRundownTraceEventParser(source);
rundown.MethodDCStopVerbose += e => Method("exists", e);
rundown.MethodDCStartVerbose += e => Method("exists", e);
source.Process();
