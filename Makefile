# Two commands do everything from a fresh clone: `make demo` and `make test`.
# Both make their own environment in .venv; nothing outside the checkout is changed, except that
# on Debian, as root, a missing python3-venv is installed, and for the tests what TEST_TOOLS names.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# real parts that the tests use, and the Debian packages that have them
TEST_TOOLS := chromium dbus-daemon fusefat fusermount3 git gnome-keyring-daemon mkfs.exfat mkfs.vfat \
  mount.exfat-fuse ntfs-3g rsync sftp sshd systemd-analyze umockdev-run vim
TEST_PACKAGES := chromium dbus dosfstools exfat-fuse exfatprogs fuse3 fusefat git gnome-keyring ntfs-3g \
  openssh-client openssh-server rsync systemd umockdev vim
# for `make test-usb`, and the Debian packages that it does not install but unpacks
USB_TOOLS := cpio mkfs.exfat mkfs.vfat qemu-system-x86_64
USB_PACKAGES := cpio dosfstools exfatprogs qemu-system-x86
USB_PARTS := build/hotplug
# one worker for each processor; tests that want something of the machine for themselves share one
TOGETHER := -n auto --dist loadgroup
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-usb lint types imports unit coverage faults docs catalog bench clean

demo: $(VENV)/installed
	$(BIN)/python tests/tools/demo.py

test: $(VENV)/tested-with lint types imports docs catalog coverage faults
	@echo "all checks passed"

lint: $(VENV)/tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/tested-with
	$(BIN)/mypy

imports: $(VENV)/tested-with
	$(BIN)/lint-imports

# the generated pages must be what the code says; `make docs WRITE=--write` renews them
docs: $(VENV)/tested-with
	$(BIN)/python tests/tools/reference.py $(WRITE)

# the catalog must be complete; `make catalog WRITE=--write` collects new messages
catalog: $(VENV)/tested-with
	$(BIN)/python tests/tools/catalog.py $(WRITE)

unit: $(VENV)/tested-with
	$(BIN)/pytest $(TOGETHER)

coverage: $(VENV)/tested-with
	$(BIN)/pytest $(TOGETHER) --ignore tests/fault --cov --cov-report=
	$(BIN)/coverage report --include='*/crypto/*,*/envelope.py,*/encoding.py,*/keyslots/*,*/tlog/*' --fail-under=100
	$(BIN)/coverage report --omit='*/crypto/*,*/envelope.py,*/encoding.py,*/keyslots/*,*/tlog/*' --fail-under=95

# thousands of processes that are killed or forked: each would write coverage, which takes an hour
faults: $(VENV)/tested-with
	$(BIN)/pytest $(TOGETHER) tests/fault

# a machine in software, with a stick that is plugged in and pulled out: docs/hotplug-test.md
test-usb: $(VENV)/tested-with $(USB_PARTS)/unpacked
	$(BIN)/pytest tests/hotplug --log-cli-level=INFO --log-cli-format='%(message)s'

# on a disk what must be durable, in memory the rest; then the page and its picture
bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python bench/compare.py --install start large tree again
	$(BIN)/python bench/compare.py --folder $${TMPDIR:-/tmp} large tree mount log drives
	$(BIN)/python bench/page.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "encvault needs Python 3.11 or newer; hint: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -qq -y python3-venv && $(PYTHON) -m venv $(VENV); \
	  else \
	    echo "hint: the venv module is missing; on Debian: sudo apt install python3-venv"; exit 1; \
	  fi; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tested-with: pyproject.toml Makefile | $(VENV)/bin/python
	@( PATH=$$PATH:/usr/sbin:/sbin; for tool in $(TEST_TOOLS); do command -v $$tool >/dev/null || exit 1; done ) || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends $(TEST_PACKAGES); \
	  else \
	    echo "hint: the tests need $(TEST_TOOLS); on Debian: sudo apt install $(TEST_PACKAGES)"; \
	    exit 1; \
	  fi; }
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/installed

$(USB_PARTS)/unpacked: Makefile
	@command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || \
	  { echo "hint: the machine for make test-usb is made of Debian's packages"; exit 1; }
	@[ "$$(id -u)" != 0 ] || apt-get update -qq
	@( for tool in $(USB_TOOLS); do command -v $$tool >/dev/null || exit 1; done ) || { \
	  if [ "$$(id -u)" = 0 ]; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get install -qq -y --no-install-recommends $(USB_PACKAGES); \
	  else \
	    echo "hint: sudo apt install $(USB_PACKAGES)"; exit 1; \
	  fi; }
	@rm -rf $(USB_PARTS) && mkdir -p $(USB_PARTS)
	@set -eu; cd $(USB_PARTS); \
	kernel=$$(apt-cache depends --important linux-image-amd64 | sed -n 's/.*Depends: //p'); \
	apt-get download -qq -o APT::Sandbox::User= $$kernel udev busybox-static; \
	dpkg-deb -x linux-image-*.deb kernel; \
	dpkg-deb -x udev_*.deb udev; \
	dpkg-deb -x busybox-static_*.deb busybox; \
	rm ./*.deb
	@touch $@

clean:
	rm -rf $(VENV) build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
