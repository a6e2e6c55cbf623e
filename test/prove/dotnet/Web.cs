// A Kestrel application: JSON, routing, middleware. usage: Web SECONDS; it listens at 127.0.0.1:5080.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = Array.Empty<string>(), ContentRootPath = "/tmp" });
builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:5080");
var app = builder.Build();
app.Use(async (context, next) => { context.Response.Headers["x-id"] = Guid.NewGuid().ToString("N"); await next(context); });
app.MapGet("/items/{n:int}", (int n) => Enumerable.Range(0, n).Select(i => new Item(i, "item" + i, i * 1.5m)).ToList());
app.MapPost("/sum", async (HttpRequest request) =>
{
    var items = await request.ReadFromJsonAsync<List<Item>>();
    return Results.Json(new { sum = items.Sum(i => i.Price), names = items.GroupBy(i => i.Name.Length).ToDictionary(g => g.Key, g => g.Count()) });
});
app.Lifetime.ApplicationStarted.Register(() => Console.WriteLine("ready"));
using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(args.Length > 0 ? double.Parse(args[0]) : 60));
stop.Token.Register(app.Lifetime.StopApplication);
await app.RunAsync();

public record Item(int Id, string Name, decimal Price);
