# Completion of weir for fish, to be installed as share/fish/vendor_completions.d/weir.fish.

function __weir_targets
    set -l upstream
    weir ctl status --json 2>/dev/null | string replace -a '{' \n |
        string replace -rf '^"name":"([^"]*)","(algorithm|address":"[^"]*","configured_weight).*' '$2 $1' |
        while read -l kind name
            if string match -q algorithm $kind
                set upstream $name
                echo $name
            else
                echo $upstream/$name
            end
        end
end

function __weir_needs_verb
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = ctl; and not __fish_seen_subcommand_from $__weir_verbs
end

set -g __weir_verbs status backends listeners routes sessions why top config drain disable enable weight kick add remove reload metrics ready log-level

complete -c weir -f
complete -c weir -n __fish_use_subcommand -a ctl -d 'ask a weir that runs, and steer it'
complete -c weir -n __fish_use_subcommand -a top -d 'how everything goes, as it goes'
complete -c weir -s c -r -F -d 'the configuration'
complete -c weir -s p -r -F -d 'the pid file'
complete -c weir -n __fish_use_subcommand -s t -d 'check the configuration'
complete -c weir -n __fish_use_subcommand -s T -d 'check it, and print it with every default'
complete -c weir -n __fish_use_subcommand -s s -x -a 'reload reopen upgrade quit stop' -d 'give an order'

complete -c weir -n __weir_needs_verb -a status -d 'how weir is, in a few lines'
complete -c weir -n __weir_needs_verb -a backends -d 'each backend'
complete -c weir -n __weir_needs_verb -a listeners -d 'each listener'
complete -c weir -n __weir_needs_verb -a why -d 'why a request went where it went'
complete -c weir -n __weir_needs_verb -a routes -d 'each route'
complete -c weir -n __weir_needs_verb -a sessions -d 'each session'
complete -c weir -n __weir_needs_verb -a top -d 'how everything goes, as it goes'
complete -c weir -n __weir_needs_verb -a config -d 'what runs, with every default'
complete -c weir -n __weir_needs_verb -a drain -d 'no new sessions but those that stick to it'
complete -c weir -n __weir_needs_verb -a disable -d 'nothing new at all'
complete -c weir -n __weir_needs_verb -a enable -d 'undoes drain and disable'
complete -c weir -n __weir_needs_verb -a weight -d 'its share of the traffic'
complete -c weir -n __weir_needs_verb -a kick -d 'ends what runs on it'
complete -c weir -n __weir_needs_verb -a add -d 'one more backend'
complete -c weir -n __weir_needs_verb -a remove -d 'a backend less, which drains'
complete -c weir -n __weir_needs_verb -a reload -d 'read the configuration file again'
complete -c weir -n __weir_needs_verb -a metrics -d 'as Prometheus has it'
complete -c weir -n __weir_needs_verb -a ready -d 'exit status 0 where weir is ready'
complete -c weir -n __weir_needs_verb -a log-level -d 'log from this level up'

complete -c weir -n '__fish_seen_subcommand_from ctl' -l socket -r -F -d 'the admin socket'
complete -c weir -n '__fish_seen_subcommand_from ctl' -l json -d 'for programs'
complete -c weir -n '__fish_seen_subcommand_from why' -l last -x -a '5xx 4xx error slow retried any' -d 'of the last of a kind'
complete -c weir -n '__fish_seen_subcommand_from drain' -l wait -x -d 'return when it is empty'
complete -c weir -n '__fish_seen_subcommand_from add' -l id -x -d 'its identity'
complete -c weir -n '__fish_seen_subcommand_from add' -l weight -x -d 'its share of the traffic'
complete -c weir -n '__fish_seen_subcommand_from sessions' -l listener -x -d 'of this listener'
complete -c weir -n '__fish_seen_subcommand_from sessions' -l backend -x -a '(__weir_targets)' -d 'of this target'
complete -c weir -n '__fish_seen_subcommand_from sessions' -l max -x -d 'so many'
complete -c weir -n '__fish_seen_subcommand_from reload' -l reset -d 'forget what was changed by hand'
complete -c weir -n '__fish_seen_subcommand_from backends add drain disable enable weight kick remove' -a '(__weir_targets)'
complete -c weir -n '__fish_seen_subcommand_from log-level' -a 'error warn info debug trace'
