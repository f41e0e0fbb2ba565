// Given to the app by `node --require`: SIGUSR2 sends a process into an endless loop.
process.on('SIGUSR2', () => {
  for (;;);
});
