# Evaluates a Vagrantfile with what Vagrant gives it and prints what it defines, as JSON. What isn't known here is an error.
require "json"

class Recorder
  attr_reader :all
  def initialize(all = []) = @all = all
  def method_missing(name, *arguments, **options)
    raise ArgumentError, "the Vagrantfile uses #{name}, which isn't known here" unless ALLOWED.include?(name)
    @all << [name, arguments, options] unless arguments.empty? && options.empty?
    yield Recorder.new if block_given?
    self
  end
  def respond_to_missing?(_name, _private = false) = true
  ALLOWED = %i[vm box= synced_folder provider memory= cpus= hostname= network provision].freeze
end

class Top < Recorder
  attr_reader :machines
  def initialize = (super(); @machines = {})
  def vm = self
  def define(name)
    yield(machine = Recorder.new)
    @machines[name] = machine.all
  end
end

module Vagrant
  def self.configure(version)
    raise ArgumentError, "version #{version}" unless version == "2"
    yield(top = Top.new)
    puts JSON.generate({ all: top.all, machines: top.machines })
  end
end

load ARGV.fetch(0)
