#!/bin/sh
# `npm run coverage`: npm test, and which lines of src it has run, in jest's own process and in those of the service.
set -eu
rm -rf coverage
code=0
COVERAGE_OF_PROCESSES=coverage/processes npm test -- --coverage || code=$?
[ -d coverage/processes ] || exit $code

# Some tests run a copy of dist (test/support/service.ts) with another app in it. The rest of it is the code that is here.
for report in coverage/processes/*.json; do
  sed -E "s#file://[^\"]*/test-[A-Za-z0-9]+/(dist|src)/(main\.|server/)#file://$PWD/\1/\2#g" "$report" >coverage/report
  mv coverage/report "$report"
done
c8 report --temp-directory coverage/processes --exclude-after-remap --include 'src/**' --reporter json \
  --reports-dir coverage/parts
nyc report --temp-dir coverage/parts
exit $code
